"""Records of annotations in one file that all loader processes map into memory (`dataset_type: serialized`).

The annotations are parsed once. The file is found again by what they say, so the next start parses nothing, and
whatever changes in them, in the label map or in this format makes another file. Nothing in it is executed.

Layout: a line of JSON (`_Header`), the columns of file names as JSON, a record after the other as JSON arrays, and
where each record begins and the last one ends, as little-endian 64 bit numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, overload

import numpy as np

from oneformer_spec.commands.exit import note
from oneformer_spec.errors import DataError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.labels import Labels

Record = TypeVar("Record")
FromRow = Callable[[list[Any]], Record]
"""The JSON array of a record's fields -> the record."""

FORMAT = 1
CACHE_VARIABLE = "ONEFORMER_CACHE"
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class _Header:
    """How long the parts of a file are, in bytes but for `count`, and the digest of all that follows."""

    format: int
    count: int
    columns: int
    records: int
    digest: str


class DamagedError(Exception):
    """A file of packed records is not what was written."""


class PackedRecords(Sequence[Record], Generic[Record]):
    """The records of a file, each decoded when it is asked for; every process that opens it shares its memory."""

    def __init__(self, path: Path, from_row: FromRow[Record]) -> None:
        """Map a file.

        Raises:
            DamagedError: It is damaged.
            OSError: It cannot be read.
        """
        self.path, self._from_row = path, from_row
        with open(path, "rb") as file:
            try:
                self._header = _Header(**json.loads(file.readline(1000)))
                start = file.tell()
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (ValueError, TypeError) as error:
                raise DamagedError from error
        header = self._header
        self._columns, self._first = start, start + header.columns
        offsets = self._first + header.records
        if header.format != FORMAT or len(self._map) != offsets + 8 * (header.count + 1):
            raise DamagedError
        if _digest(memoryview(self._map)[start:]) != header.digest:
            raise DamagedError
        self._offsets = np.frombuffer(self._map, dtype="<u8", count=header.count + 1, offset=offsets)

    def __reduce__(self) -> tuple[type[PackedRecords[Record]], tuple[Path, FromRow[Record]]]:
        """Send the file's name to another process, not its content."""
        return PackedRecords, (self.path, self._from_row)

    def __len__(self) -> int:
        return self._header.count

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        position = range(len(self))[index]
        begin, end = (self._first + int(self._offsets[place]) for place in (position, position + 1))
        return self._from_row(json.loads(self._map[begin:end]))

    def column(self, name: str) -> list[str]:
        """Return a field of all records, one of those that were kept apart."""
        values: list[str] = json.loads(self._map[self._columns : self._first])[name]
        return values


def packed(
    path: Path, parse: Callable[[], Sequence[Record]], from_row: FromRow[Record], columns: Sequence[str], name: str
) -> Sequence[Record]:
    """Return the records of a file, which is written where it is missing or damaged.

    `columns` are the fields that `column` gives for all records at once, `name` is what they come from. Where no file
    can be written, the records stay in memory, with a note.
    """
    try:
        if path.exists():
            try:
                return PackedRecords(path, from_row)
            except DamagedError:
                note(f"{path}: is damaged and is made anew from {name}")
        records = parse()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: pack(file, records, columns))
        return PackedRecords(path, from_row)
    except OSError as error:
        note(
            f"{path}: {error.strerror or error}; the annotations stay in memory ({CACHE_VARIABLE} names another folder)"
        )
        return parse()


def column(records: Sequence[Record], name: str) -> list[str]:
    """Return a field of all records."""
    if isinstance(records, PackedRecords):
        return records.column(name)
    return [getattr(record, name) for record in records]


def pack(file: IO[bytes], records: Sequence[Any], columns: Sequence[str]) -> None:
    """Write records, which are dataclasses of numbers, texts and tuples."""
    names = _plain({name: [getattr(record, name) for record in records] for name in columns})
    rows = [_plain(dataclasses.astuple(record)) for record in records]
    ends = np.cumsum([0, *map(len, rows)], dtype="<u8")
    body = b"".join((names, *rows, ends.tobytes()))
    header = _Header(FORMAT, len(rows), len(names), int(ends[-1]), _digest(body))
    file.write(_plain(dataclasses.asdict(header)) + b"\n" + body)


def cache_folder() -> Path:
    """Return where packed records are kept: ONEFORMER_CACHE, or `oneformer` in the user's folder of caches."""
    own = os.environ.get(CACHE_VARIABLE)
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oneformer"


def record_file(kind: type, labels: Labels, inputs: Iterable[bytes]) -> Path:
    """Return the file of the records of a class; its name is a digest of all that they depend on."""
    digest = hashlib.blake2b(digest_size=20)
    digest.update(_plain([FORMAT, kind.__module__, labels.rows()]))
    for block in inputs:
        digest.update(block)
    return cache_folder() / f"{digest.hexdigest()}.records"


def blocks(path: str | Path) -> Iterator[bytes]:
    """Yield the content of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _digest(body: bytes | memoryview) -> str:
    return hashlib.blake2b(body, digest_size=20).hexdigest()


def _plain(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
