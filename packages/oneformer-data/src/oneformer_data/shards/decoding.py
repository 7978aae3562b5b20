"""Decode a sample from a shard, exactly as its format decodes the same files on disk.

The JSON of a sample is its format's annotation of one image: for COCO a document with `images` and `annotations`, for
semantic masks an object with `img` and `segm`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from oneformer_data.opening.documents import parse_json
from oneformer_data.opening.format import FileFormat
from oneformer_data.opening.loading import made
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample
from oneformer_data.shards.index import file_format
from oneformer_data.shards.members import Stored
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels

_LARGEST_JSON = 64 << 20  # bytes; parsed, it takes about ten times as much memory


def format_at(type: str, path: str, source: Source) -> FileFormat[Any]:
    """Return the format that reads one sample; `path` names its JSON, the options are those of the shards' data set."""
    kind = file_format(type, path)
    format = made(kind, type, replace(source, annotations=path, images=None, panoptic=None, type=type))
    assert isinstance(format, FileFormat)
    return format


def decode(stored: Stored, labels: Labels, source: Source) -> Sample:
    """Decode a sample from its stored files.

    Raises:
        DataError: A file is damaged, or files contradict each other.
    """
    content = stored.annotation
    if len(content.data) > _LARGEST_JSON:
        raise DataError(f"{content}: has {len(content.data)} bytes, at most {_LARGEST_JSON} are read")
    format = format_at(stored.type, content.name, source)
    return format.sample(format.record(parse_json(content), labels), stored.files, labels)
