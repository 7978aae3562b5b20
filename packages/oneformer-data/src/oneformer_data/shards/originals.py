"""Read the original files of a data set, sample by sample, for copying into tar files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oneformer_data.opening.format import File, FileFormat
from oneformer_data.opening.loading import format_of
from oneformer_data.opening.sources import Source
from oneformer_data.shards.members import Stored
from oneformer_data.shards.webdataset import WebDataset
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.files.images import Content
from oneformer_spec.labels import Labels


@dataclass(frozen=True)
class Originals:
    """A data set to copy: `count` samples of one format; `stored` reads the files of one."""

    type: str
    count: int
    stored: Callable[[int], Stored]


def originals(source: Source, labels: Labels) -> Originals:
    """Open a data set for copying; it passes the same checks as for training.

    Raises:
        SpecError: A folder is not set, or the format does not consist of files.
        DataError: The annotations are wrong, or files are missing.
    """
    format = format_of(source)
    if isinstance(format, WebDataset):
        shards = format.open(labels)
        return Originals(shards.listing.type, len(shards), shards.stored)
    name = source.declared.name
    if not isinstance(format, FileFormat):
        raise SpecError(f"{source.section}.type: {name} has no files of its own, so it cannot be written as shards")
    records = format.checked_records(labels)
    documents = format.documents(records)
    return Originals(name, len(records), lambda index: _read(format, name, records[index], documents[index]))


def _read(format: FileFormat[Any], type: str, record: Any, document: Any) -> Stored:
    annotation = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    files = {field: _content(file) for field, file in format.files(record).items()}
    return Stored(type, files["image"].name, Content(format.home(record), annotation), files)


def _content(file: File) -> Content:
    if isinstance(file, Content):
        return file
    try:
        return Content(str(file), file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
