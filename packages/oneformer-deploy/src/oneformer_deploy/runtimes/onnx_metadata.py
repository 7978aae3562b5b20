"""Read the metadata of an ONNX file without loading the graph; this takes milliseconds for a file of any size.

An ONNX file is one protobuf message, `ModelProto`: a sequence of fields, each a key (field number and wire type) and a
value (https://protobuf.dev/programming-guides/encoding/). The field with the graph is skipped.
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
from oneformer_spec.files.encryption import is_encrypted, open_decrypted
from oneformer_spec.segmentation.manifest import METADATA_KEY, Manifest

if TYPE_CHECKING:
    import onnx

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types

# Field numbers of onnx.proto: ModelProto, OperatorSetIdProto, StringStringEntryProto, GraphProto, TensorProto.
IR_VERSION, PRODUCER, PRODUCER_VERSION, GRAPH, OPSETS, METADATA = 1, 2, 3, 7, 8, 14
OPSET_DOMAIN, OPSET_VERSION = 1, 2
ENTRY_KEY, ENTRY_VALUE = 1, 2
INITIALIZER, RAW_DATA, DATA_LOCATION, EXTERNAL = 5, 9, 14, 1

MAX_FIELD = 64 * 2**20  # bytes; no field outside the graph is larger


@dataclass
class OnnxFile:
    """The metadata of an ONNX file; ``opsets`` maps operator domains ("" is ONNX's own) to versions."""

    path: Path
    num_bytes: int
    ir_version: int = 0
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    has_graph: bool = False

    def manifest(self) -> Manifest:
        """Parse the manifest that the export wrote.

        Raises:
            CheckpointError: The file has no manifest, or a damaged one.
        """
        if METADATA_KEY not in self.metadata:
            producer = f"written by {self.producer}" if self.producer else "of unknown origin"
            raise CheckpointError(
                f"{self.path}: this ONNX file ({producer}) has no oneformer manifest; `oneformer export` writes one"
            )
        return Manifest.from_json(self.metadata[METADATA_KEY], self.path)


def read_onnx_file(path: Path | str, key: str | None = None) -> OnnxFile:
    """Read the metadata of an ONNX file, which may be encrypted.

    Without `key`, an encrypted file is decrypted with ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The file is missing, truncated, or not an ONNX file.
    """
    path = Path(path)
    try:
        with open_decrypted(path, key) as file:
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
    """Return what a runtime loads: the path of a plain file, or the decrypted bytes of an encrypted one.

    Raises:
        CheckpointError: An encrypted file stores weights in other files, which would not be encrypted.
    """
    if not is_encrypted(path):
        return str(path)
    with open_decrypted(path, key) as file:
        if _has_external_data(file):
            raise CheckpointError(f"{path}: is encrypted but stores weights in other files; export the model again")
        file.seek(0)
        return file.read()


def read_model(path: Path, key: str | None = None) -> onnx.ModelProto:
    """Load a whole model with its weights; the file may be encrypted. Needs the package onnx.

    Raises:
        CheckpointError: The graph is damaged, or a file with external weights is missing.
    """
    import onnx

    source = graph_source(path, key)
    try:
        return onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)
    except Exception as error:  # errors of protobuf, of onnx's checker, of the file system
        raise CheckpointError(f"{path}: onnx cannot load it: {one_line(error)}") from error


def _has_external_data(file: BinaryIO) -> bool:
    """Whether a model stores weights in other files."""
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
    """The file ends too early."""


def _read(facts: OnnxFile, file: BinaryIO) -> None:
    """Fill in the metadata from the fields of a `ModelProto`."""
    if facts.num_bytes == 0:
        raise ValueError("the file is empty")
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
        if facts.ir_version:  # every writer puts it first; a file without it is something else
            raise _TruncatedError(str(error)) from None
        raise ValueError(str(error)) from None
    if not facts.has_graph:
        raise ValueError("it contains no graph")


def _fields(file: BinaryIO, end: int, skip: int = 0) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field up to byte ``end``.

    For the field ``skip``, yield its size instead of its value, with the file positioned at the value.

    Raises:
        EOFError: The bytes end inside a field.
        ValueError: The bytes are not protobuf.
    """
    while file.tell() < end:
        number, wire_type = divmod(_varint(file), 8)
        if wire_type == VARINT:
            yield number, _varint(file)
            continue
        sizes = {FIXED64: 8, FIXED32: 4}
        if number == 0 or wire_type not in (LENGTH, *sizes):
            raise ValueError(f"no protobuf field starts at byte {file.tell() - 1}")
        size = sizes.get(wire_type) or _varint(file)
        if file.tell() + size > end:
            raise EOFError(f"it has {end} bytes, expected at least {file.tell() + size}")
        if number == skip:
            after = file.tell() + size
            yield number, size
            file.seek(after)
        elif size > MAX_FIELD:
            raise ValueError(f"field {number} has {size} bytes")
        else:
            yield number, file.read(size)


def _varint(file: BinaryIO) -> int:
    """Read a variable-length integer: seven bits per byte, lowest first; the eighth bit says that more bytes follow."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError(f"it has {file.tell()} bytes and ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError(f"the number that ends at byte {file.tell() - 1} is too long")


def _message(value: int | bytes) -> dict[int, int | bytes]:
    """Return the fields of a nested message; of a repeated field, the last value."""
    if isinstance(value, int):
        raise ValueError("found a number, expected a message")
    try:
        return dict(_fields(io.BytesIO(value), len(value)))
    except EOFError as error:
        raise ValueError(str(error)) from None


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("found text, expected a number")
    return value


def _text(value: int | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("found a number, expected text")
    return value.decode()
