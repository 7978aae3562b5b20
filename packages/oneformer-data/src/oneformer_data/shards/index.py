"""The index of a set of tar shards: their format and the byte range of each sample, so that one read fetches it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.opening.documents import is_integer, listed
from oneformer_data.opening.format import FileFormat
from oneformer_data.opening.loading import format_class
from oneformer_spec.errors import DataError
from oneformer_spec.plugins.annotation_formats import annotation_formats

FORMAT = 1
INDEX_NAME = "shards.json"
"""File name of the index of a set of tar shards; annotations of that name are of the type `webdataset`."""

LARGEST_SAMPLE = 1 << 30  # bytes; a sample is read into memory as a whole
WINDOW = 8
"""How many shards training samples from at a time: more shuffle better, fewer need a smaller cache."""

_BLOCK = 512  # bytes; tar headers and contents begin at multiples of it


@dataclass(frozen=True)
class Shard:
    """One tar file of N samples.

    `offsets` (N + 1,) are the byte offsets at which each sample begins and the last one ends. `size` is in bytes;
    `sha256` is None if the file was never read as a whole.
    """

    name: str
    size: int
    sha256: str | None
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Index:
    """A set of shards in order, the format of their annotations, and their label map if known."""

    type: str
    categories: list[Any] | None
    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def ends(self) -> list[int]:
        """The cumulative number of samples at the end of each shard."""
        return list(accumulate(map(len, self.shards)))

    def document(self) -> dict[str, Any]:
        """Return the index as plain JSON values, which `parse` reads."""
        rows = [
            {"name": shard.name, "size": shard.size, "sha256": shard.sha256, "offsets": shard.offsets.tolist()}
            for shard in self.shards
        ]
        return {"format": FORMAT, "type": self.type, "categories": self.categories, "shards": rows}


def parse(document: Any, path: str) -> Index:
    """Parse an index from a JSON document; `path` names it in errors.

    Raises:
        DataError: It is not an index, has an unsupported format version, or contradicts itself.
    """
    rows = listed(document, "shards", path)
    if document.get("format") != FORMAT:
        raise DataError(f"{path}: is an index of format {document.get('format')!r}; this version reads format {FORMAT}")
    file_format(document.get("type"), path)
    categories = document.get("categories")
    if categories is not None and not isinstance(categories, list):
        raise DataError(f"{path}: categories: expected a list, found {type(categories).__name__}")
    if not rows:
        raise DataError(f"{path}: has no shards")
    shards = tuple(_shard(row, f"{path}: shards[{number}]") for number, row in enumerate(rows))
    if len({shard.name for shard in shards}) < len(shards):
        raise DataError(f"{path}: two shards have the same name")
    return Index(document["type"], categories, shards)


def file_format(type: object, path: str) -> type[FileFormat[Any]]:
    """Return the class of the samples' format `type`; `path` names the index or tar file in errors.

    Raises:
        DataError: The format is not installed, or does not consist of files.
    """
    declared = annotation_formats().get(type) if isinstance(type, str) else None
    kind = format_class(declared) if declared is not None else None
    if kind is None or not issubclass(kind, FileFormat):
        raise DataError(f"{path}: type: {type!r} is not an installed format that consists of files")
    return kind


def _shard(row: Mapping[str, Any], where: str) -> Shard:
    name, size, sha256, offsets = (row.get(field) for field in ("name", "size", "sha256", "offsets"))
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\\x00-\x1f]+\.tar", name):
        raise DataError(f"{where}: name: {name!r} is not the name of a .tar file beside the index")
    if not is_integer(size) or not 0 < size < 1 << 62:
        raise DataError(f"{where}: size: {size!r} is not a number of bytes")
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
        raise DataError(f"{where}: sha256: {sha256!r} is not a hexadecimal SHA-256 digest")
    if not isinstance(offsets, list) or len(offsets) < 2 or not all(is_integer(offset) for offset in offsets):
        raise DataError(f"{where}: offsets: expected whole numbers, one per sample and one more")
    if min(offsets) < 0 or max(offsets) > size:
        raise DataError(f"{where}: offsets: point past the end of a file of {size} bytes")
    boundaries = np.array(offsets, dtype=np.int64)
    lengths = np.diff(boundaries)
    if (lengths <= 0).any() or (boundaries % _BLOCK).any():
        raise DataError(f"{where}: offsets: are not increasing multiples of {_BLOCK}")
    if lengths.max() > LARGEST_SAMPLE:
        raise DataError(f"{where}: offsets: a sample has {lengths.max()} bytes, at most {LARGEST_SAMPLE} are read")
    return Shard(name, size, sha256, boundaries)
