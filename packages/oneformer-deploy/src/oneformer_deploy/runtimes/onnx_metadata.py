"""What an ONNX file says about itself, read by skipping over the graph: milliseconds, whatever the file's size.

An ONNX file is one protobuf message, `ModelProto`: a row of fields, each a key (field number and wire type) and a value
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from oneformer_deploy.runtimes.interface import one_line
from oneformer_spec.errors import CheckpointError
from oneformer_spec.files.encryption import is_encrypted, opened
from oneformer_spec.segmentation.manifest import METADATA_KEY, Manifest

if TYPE_CHECKING:
    import onnx

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types

# Field numbers of onnx.proto: ModelProto, OperatorSetIdProto, StringStringEntryProto, GraphProto, TensorProto.
IR_VERSION, PRODUCER, PRODUCER_VERSION, GRAPH, OPSETS, METADATA = 1, 2, 3, 7, 8, 14
OPSET_DOMAIN, OPSET_VERSION = 1, 2
ENTRY_KEY, ENTRY_VALUE = 1, 2
INITIALIZER, RAW_DATA, DATA_LOCATION, EXTERNAL = 5, 9, 14, 1

MAX_FIELD = 64 * 2**20  # bytes: nothing outside the graph is this large


@dataclass
class OnnxFile:
    """The facts of an ONNX file outside its graph; ``opsets`` by operator domain, "" being ONNX's own."""

    path: Path
    num_bytes: int
    ir_version: int = 0
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    has_graph: bool = False

    def manifest(self) -> Manifest:
        """The manifest that the export wrote. CheckpointError when there is none."""
        if METADATA_KEY not in self.metadata:
            maker = f"made by {self.producer}" if self.producer else "made elsewhere"
            raise CheckpointError(
                f"{self.path}: an ONNX file without a oneformer manifest ({maker}); `oneformer export` writes one"
            )
        return Manifest.from_json(self.metadata[METADATA_KEY], self.path)


def read_onnx_file(path: Path | str, key: str | None = None) -> OnnxFile:
    """Read the facts of a file, encrypted or not. CheckpointError when it is missing, truncated, or not ONNX.

    Without a key, ONEFORMER_ENCRYPTION_KEY is taken for an encrypted file.
    """
    path = Path(path)
    try:
        with opened(path, key) as file:
            facts = OnnxFile(path, file.seek(0, os.SEEK_END))
            file.seek(0)
            _read(facts, file)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except _TruncatedError as error:
        raise CheckpointError(f"{path}: is truncated: {error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not an ONNX file: {error}") from None
    return facts


def graph_source(path: Path, key: str | None = None) -> str | bytes:
    """What a runtime reads: the file's path, or what is in an encrypted one, which never touches the disk.

    CheckpointError where an encrypted file names other files, which would have to be plain.
    """
    if not is_encrypted(path):
        return str(path)
    with opened(path, key) as file:
        if _has_external_data(file):
            raise CheckpointError(f"{path}: is encrypted, but keeps weights in other files; export it again")
        file.seek(0)
        return file.read()


def read_model(path: Path, key: str | None = None) -> onnx.ModelProto:
    """Return the whole model, its weights inside, encrypted or not; needs the package onnx.

    CheckpointError where the graph is damaged, or weights that lie in other files are not there.
    """
    import onnx

    source = graph_source(path, key)
    try:
        return onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)
    except Exception as error:  # those of protobuf, of onnx's checker, of the file system
        raise CheckpointError(f"{path}: onnx cannot load it: {one_line(error)}") from error


def _has_external_data(file: BinaryIO) -> bool:
    """Tell whether weights of a model lie in other files."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    return any(
        fact == (DATA_LOCATION, EXTERNAL)
        for number, size in _fields(file, end, skip=GRAPH)
        if number == GRAPH
        for part, part_size in _fields(file, file.tell() + _number(size), skip=INITIALIZER)
        if part == INITIALIZER
        for fact in _fields(file, file.tell() + _number(part_size), skip=RAW_DATA)
    )


class _TruncatedError(Exception):
    """The file ends where an ONNX file goes on."""


def _read(facts: OnnxFile, file: BinaryIO) -> None:
    """Fill in the facts from the fields of a `ModelProto`."""
    if facts.num_bytes == 0:
        raise ValueError("it is empty")
    try:
        for number, value in _fields(file, facts.num_bytes, skip=GRAPH):
            if number == IR_VERSION:
                facts.ir_version = _number(value)
            elif number in (PRODUCER, PRODUCER_VERSION):
                facts.producer = f"{facts.producer} {_text(value)}".strip()
            elif number == GRAPH:
                facts.has_graph = True
            elif number == OPSETS:
                opset = _message(value)
                facts.opsets[_text(opset.get(OPSET_DOMAIN, b""))] = _number(opset.get(OPSET_VERSION, 0))
            elif number == METADATA:
                entry = _message(value)
                facts.metadata[_text(entry.get(ENTRY_KEY, b""))] = _text(entry.get(ENTRY_VALUE, b""))
    except EOFError as error:
        if facts.ir_version:  # every writer puts it first: without it these bytes are something else
            raise _TruncatedError(str(error)) from None
        raise ValueError(str(error)) from None
    if not facts.has_graph:
        raise ValueError("it holds no graph")


def _fields(file: BinaryIO, end: int, skip: int = 0) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field up to byte ``end``; of field ``skip`` the size, the file standing at its value.

    EOFError where the bytes end inside a field, ValueError where they are no protobuf.
    """
    while file.tell() < end:
        number, wire_type = divmod(_varint(file), 8)
        if wire_type == VARINT:
            yield number, _varint(file)
            continue
        sizes = {FIXED64: 8, FIXED32: 4}
        if number == 0 or wire_type not in (LENGTH, *sizes):
            raise ValueError(f"byte {file.tell() - 1} starts no protobuf field")
        size = sizes.get(wire_type) or _varint(file)
        if file.tell() + size > end:
            raise EOFError(f"{end} bytes of at least {file.tell() + size}")
        if number == skip:
            after = file.tell() + size
            yield number, size
            file.seek(after)
        elif size > MAX_FIELD:
            raise ValueError(f"its field {number} holds {size} bytes")
        else:
            yield number, file.read(size)


def _varint(file: BinaryIO) -> int:
    """An integer of seven bits per byte, the lowest first; the eighth bit says that more follow."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError(f"{file.tell()} bytes, which end inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError(f"byte {file.tell() - 1} is in no number")


def _message(value: int | bytes) -> dict[int, int | bytes]:
    """The fields of a message inside a message; of repeated ones the last."""
    if isinstance(value, int):
        raise ValueError("a number stands for a message")
    try:
        return dict(_fields(io.BytesIO(value), len(value)))
    except EOFError as error:
        raise ValueError(str(error)) from None


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a text stands for a number")
    return value


def _text(value: int | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("a number stands for a text")
    return value.decode()
