"""The files of any data set, sample by sample, as a tar file shall hold them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneformer_data.formats import semantic_jsonl
from oneformer_data.opening.documents import listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.loading import open_source
from oneformer_data.opening.sources import Source, source_type
from oneformer_data.shards.members import Stored
from oneformer_data.shards.reader import Shards
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.files.images import Content
from oneformer_spec.labels import Labels


@dataclass(frozen=True)
class Originals:
    """`count` samples of one format; `stored` reads the files of one."""

    type: str
    count: int
    stored: Callable[[int], Stored]


@dataclass(frozen=True)
class _Files:
    """What the annotation says of a picture, as JSON with the name that errors give it, and where the files are."""

    document: Mapping[str, Any]
    name: str
    picture: Path
    mask: Path | None


def originals(source: Source, labels: Labels) -> Originals:
    """Open a data set for copying; it is checked as for training.

    Raises:
        SpecError: A folder is not set, or the data set is of a type that no tar file can hold.
        DataError: The annotations are wrong, or files are missing.
    """
    type = source_type(source)
    samples = open_source(source, labels)
    if isinstance(samples, Shards):
        return Originals(samples.listing.type, len(samples), samples.stored)
    if type not in _FILES:
        raise SpecError(f"{source.section}.type: {type} cannot be written as shards; {', '.join(_FILES)} can")
    del samples  # which hold what follows once more
    files = _FILES[type](source)
    return Originals(type, len(files), lambda index: _read(files[index], type))


def _panoptic(source: Source) -> list[_Files]:
    images, panoptic, path = _folder(source, "images"), _folder(source, "panoptic"), source.annotations
    document = read_json(path)
    pictures = {row["id"]: row for row in listed(document, "images", path)}
    return [
        _Files(
            {"images": [picture], "annotations": [row]},
            path,
            images.path(picture["file_name"]),
            panoptic.path(row["file_name"]),
        )
        for row in listed(document, "annotations", path)
        for picture in [pictures[row["image_id"]]]
    ]


def _instance(source: Source) -> list[_Files]:
    images, path = _folder(source, "images"), source.annotations
    document = read_json(path)
    objects: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
    for row in listed(document, "annotations", path):
        objects[row["image_id"]].append(row)
    return [
        _Files({"images": [row], "annotations": objects[row["id"]]}, path, images.path(row["file_name"]), None)
        for row in listed(document, "images", path)
    ]


def _semantic(source: Source) -> list[_Files]:
    folder, path = semantic_jsonl.root(source), source.annotations
    return [
        _Files(
            {"img": record.image, "segm": record.mask},
            f"{path}:{record.line}",
            folder.path(record.image),
            folder.path(record.mask),
        )
        for record in semantic_jsonl.read_records(path)
    ]


_FILES: Mapping[str, Callable[[Source], Sequence[_Files]]] = {
    "coco_panoptic": _panoptic,
    "coco_instance": _instance,
    "semantic_jsonl": _semantic,
}


def _folder(source: Source, field: str) -> Folder:
    return Folder(source.required(field), allow_outside=source.allow_outside_root)


def _read(files: _Files, type: str) -> Stored:
    annotation = json.dumps(files.document, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    return Stored(
        type,
        str(files.picture),
        _content(files.picture),
        Content(files.name, annotation),
        None if files.mask is None else _content(files.mask),
    )


def _content(path: Path) -> Content:
    try:
        return Content(str(path), path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
