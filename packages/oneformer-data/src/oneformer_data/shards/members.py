"""Group the members of a tar file into samples. Tar headers are untrusted: every value is checked before use.

A member's name up to the first dot of its last part is the sample's key; the rest is its kind: `json` for the
annotation, an image suffix such as `jpg` for the image. A format lists its other files in `members`, such as
`panoptic.png` and `semantic.png` for masks. Other files, folders, and names like `__meta__` are ignored.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import Any, BinaryIO

import numpy as np

from oneformer_data.opening.format import IMAGE, FileFormat
from oneformer_data.opening.loading import format_class
from oneformer_data.shards.index import LARGEST_SAMPLE, Shard, file_format
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import SUFFIXES, Content
from oneformer_spec.plugins.builtins import oneformer_datasets

ANNOTATION = "json"
PICTURES = frozenset(suffix[1:] for suffix in SUFFIXES)
_LARGEST_HEADER = 1 << 20  # bytes; no honest header is longer


@dataclass(frozen=True)
class Stored:
    """The undecoded files of one sample: its annotation as JSON, and its image and other files by record field.

    `name` is the image's name in the tar file.
    """

    type: str
    name: str
    annotation: Content
    files: Mapping[str, Content]

    @property
    def picture(self) -> Content:
        """The image file."""
        return self.files[IMAGE]


def sample_in(data: bytes, tar: str, type: str) -> Stored:
    """Return the one sample in a byte range of a tar file; `tar` names the file in errors.

    Raises:
        DataError: The bytes hold anything but one sample of the format `type`.
    """
    headers = list(_headers(BytesIO(data), len(data), tar))
    keys = {_parts(header.name)[0] for header in headers}
    if len(keys) != 1:
        raise DataError(f"{tar}: disagrees with its index, which has one sample where the file has {len(keys)}")
    kinds = [_parts(header.name)[1] for header in headers]
    actual, picture = _identified(kinds, f"{tar}: {keys.pop()}", _formats(type, tar), type)
    contents = {
        kind: Content(f"{tar}: {header.name}", data[header.offset_data : header.offset_data + header.size])
        for kind, header in zip(kinds, headers, strict=True)
    }
    if actual != type:
        raise DataError(f"{contents[picture]}: the sample is {actual}, its index says {type}")
    name, format = headers[kinds.index(picture)].name, file_format(type, tar)
    files = {IMAGE: contents[picture]} | {field: contents[kind] for field, kind in format.members.items()}
    annotation = contents.get(ANNOTATION) or bare_annotation(format, contents[picture], name)
    return Stored(type, name, annotation, files)


def bare_annotation(format: type[FileFormat[Any]], picture: Content, name: str) -> Content:
    """Return the JSON of a sample that has no JSON member; errors in it name the image."""
    return Content(picture.name, json.dumps(format.bare_document(name)).encode())


def scan(file: BinaryIO, name: str, tar: str) -> tuple[str, Shard]:
    """Return the format of the samples in a tar file, and their byte ranges. Only headers are read.

    Raises:
        DataError: The file is not a tar file, is damaged, or does not consist of samples of one format.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    keys: dict[str, int] = {}  # key -> offset at which the sample begins
    types: set[str] = set()
    formats, end = _formats(None, tar), 0
    for key, group in groupby(_headers(file, size, tar, whole=True), lambda header: _parts(header.name)[0]):
        headers = list(group)
        if key in keys:
            raise DataError(f"{tar}: {key}: the files of the sample are not next to each other")
        keys[key] = headers[0].offset
        types.add(_identified([_parts(header.name)[1] for header in headers], f"{tar}: {key}", formats)[0])
        end = headers[-1].offset_data + headers[-1].size
    if not keys:
        raise DataError(f"{tar}: contains no samples")
    if len(types) > 1:
        raise DataError(f"{tar}: contains samples of several formats: {', '.join(sorted(types))}")
    offsets = np.array([*keys.values(), end + -end % tarfile.BLOCKSIZE], dtype=np.int64)
    if (largest := np.diff(offsets).max()) > LARGEST_SAMPLE:
        raise DataError(f"{tar}: a sample has {largest} bytes, at most {LARGEST_SAMPLE} are read")
    return types.pop(), Shard(name, size, None, offsets)


def _headers(file: BinaryIO, size: int, tar: str, *, whole: bool = False) -> Iterator[tarfile.TarInfo]:
    """Yield the file headers in a tar file of `size` bytes or in a part of one; only a `whole` file has an end mark."""
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            while (header := archive.next()) is not None:
                archive.members.clear()  # tarfile would keep every header
                _check(header, size, tar)
                if not (header.isdir() or _is_skipped(header.name)):
                    yield header
            offset = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{tar}: is not a tar file, is damaged, or disagrees with its index: {error}") from None
    file.seek(offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if any(mark) or (whole and len(mark) < tarfile.BLOCKSIZE):
        raise DataError(f"{tar}: is damaged or cut off at byte {offset} of {size}")


class _Headers:
    """A view of a file for tarfile to read headers from; it refuses the long reads that only a forged header causes."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self.seek, self._read = file.tell, file.seek, file.read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._read(size)


def _check(header: tarfile.TarInfo, size: int, tar: str) -> None:
    name = header.name
    if header.isdir():
        return
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.issparse():
        raise DataError(f"{tar}: {name}: is a link, a device or something else that is not a regular file")
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"{tar}: {name}: the name points outside its folder")
    if not 0 <= header.size <= size - header.offset_data:
        raise DataError(f"{tar}: {name}: claims {header.size} bytes, but the file ends earlier")


def _is_skipped(name: str) -> bool:
    key, kind = _parts(name)
    first = name.partition("/")[0]
    return not kind or not key or key.endswith("/") or (first.startswith("__") and first.endswith("__"))


def _parts(name: str) -> tuple[str, str]:
    """Split a member's name into the key of its sample and its kind."""
    folder, slash, last = name.rpartition("/")
    key, _, kind = last.partition(".")
    return f"{folder}{slash}{key}", kind.lower()


def _formats(type: str | None, tar: str) -> dict[str, type[FileFormat[Any]]]:
    """Return the formats that a sample may have: the built-in ones, and the one that the index names."""
    every = {declared.name: format_class(declared) for declared in oneformer_datasets()}
    formats = {name: kind for name, kind in every.items() if issubclass(kind, FileFormat)}
    return formats if type is None else formats | {type: file_format(type, tar)}


def _identified(
    kinds: Sequence[str], where: str, formats: Mapping[str, type[FileFormat[Any]]], stated: str | None = None
) -> tuple[str, str]:
    """Return the format of a sample, and which kind of file is its image.

    The format with the most members present wins; on a tie, the one that the index states.

    Raises:
        DataError: The sample has no image or several, no annotation, files of several formats, or a kind twice.
    """
    if len(set(kinds)) < len(kinds):
        raise DataError(f"{where}: has two files of the same kind among {', '.join(kinds)}")
    pictures = sorted(PICTURES & set(kinds))
    if len(pictures) != 1:
        raise DataError(f"{where}: has {' and '.join(pictures) or 'no image'}, expected one image")
    complete = [name for name, format in formats.items() if set(format.members.values()) <= set(kinds)]
    most = max((len(formats[name].members) for name in complete), default=0)
    types = [name for name in complete if len(formats[name].members) == most]
    types = [stated] if stated in types else types
    missing = ANNOTATION not in kinds and any(formats[name].bare_document("") is None for name in types)
    if len(types) != 1 or missing:
        others = ", ".join(sorted(set(kinds) - {pictures[0]})) or "nothing"
        expected = [_described(name, format) for name, format in formats.items()]
        raise DataError(f"{where}: has {others} besides its image, expected {', or '.join(expected)}")
    return types[0], pictures[0]


def _described(name: str, format: type[FileFormat[Any]]) -> str:
    """Describe, for an error, which files a sample of a format has besides its image."""
    files = [*format.members.values(), *([ANNOTATION] if format.bare_document("") is None else [])]
    return f"{' and '.join(files)} for {name}"
