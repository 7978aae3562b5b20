"""Engine files: a serialised TensorRT engine behind a header with the model's manifest and the TensorRT version.

An engine holds machine code for one TensorRT version and kind of GPU, so nothing is passed to TensorRT until the header
has been checked. Layout: magic bytes, length of the header (8 bytes, big-endian), header (JSON), engine. The whole file
may be encrypted; see `oneformer_spec.files.encryption`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from oneformer_spec.errors import CheckpointError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.files.encryption import encrypted, open_decrypted
from oneformer_spec.segmentation.manifest import Manifest

MAGIC = b"oneformer engine\n"
FORMAT = 1
MAX_HEADER = 64 * 2**20  # bytes, far above any label map


@dataclass(frozen=True)
class EngineFacts:
    """How an engine was built.

    `library` and `version` name the TensorRT package, `data_type` is the requested number format, `batch` gives the
    smallest, tuned and largest batch size, and `gpu` is the device it was built on (None: built without a GPU).
    """

    library: str
    version: str
    data_type: str
    batch: tuple[int, int, int]
    gpu: str | None


@dataclass(frozen=True)
class EngineHeader:
    """A file's manifest and facts, and the engine's size in bytes and SHA-256."""

    manifest: Manifest
    facts: EngineFacts
    num_bytes: int
    digest: str


@dataclass(frozen=True)
class EngineFile:
    """The content of an engine file."""

    manifest: Manifest
    facts: EngineFacts
    engine: bytes

    def write(self, path: Path, key: str | None = None) -> None:
        """Write the file, encrypted if a key is given; if that fails, an existing file stays as it was."""
        header = {
            "format": FORMAT,
            "manifest": self.manifest.to_dict(),
            "library": self.facts.library,
            "version": self.facts.version,
            "data_type": self.facts.data_type,
            "batch": list(self.facts.batch),
            "gpu": self.facts.gpu,
            "bytes": len(self.engine),
            "sha256": hashlib.sha256(self.engine).hexdigest(),
        }
        text = json.dumps(header, ensure_ascii=False, sort_keys=True).encode()

        def content(file: BinaryIO) -> None:
            for part in (MAGIC, len(text).to_bytes(8, "big"), text, self.engine):
                file.write(part)

        write_atomically(path, encrypted(content, key))


def read_engine_file(path: Path | str, key: str | None = None) -> EngineFile:
    """Read an engine file and verify its checksum; nothing in it is executed.

    Without `key`, an encrypted file is decrypted with ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The file is missing, not an engine file, truncated, damaged, of a newer format, or encrypted
            with another key.
    """
    with _open(path, key) as file:
        header = _read_header(path, file)
        engine = file.read()
    if hashlib.sha256(engine).hexdigest() != header.digest:
        raise CheckpointError(f"{path}: is damaged: its checksum does not match")
    return EngineFile(header.manifest, header.facts, engine)


def read_engine_header(path: Path | str, key: str | None = None) -> EngineHeader:
    """Read only the header of an engine file; errors as in `read_engine_file`."""
    with _open(path, key) as file:
        return _read_header(path, file)


@contextmanager
def _open(path: Path | str, key: str | None) -> Iterator[BinaryIO]:
    try:
        with open_decrypted(path, key) as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def _read_header(path: Path | str, file: BinaryIO) -> EngineHeader:
    """Read and check the header, and leave the file position at the start of the engine."""
    data = _read_header_json(path, file)
    manifest = Manifest.from_dict(data.get("manifest"), path)
    try:
        low, tuned, high = (int(size) for size in data["batch"])
        facts = EngineFacts(
            str(data["library"]), str(data["version"]), str(data["data_type"]), (low, tuned, high), data["gpu"]
        )
        header = EngineHeader(manifest, facts, int(data["bytes"]), str(data["sha256"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is damaged ({type(error).__name__}: {error})") from None
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    if size < header.num_bytes:
        raise CheckpointError(
            f"{path}: is truncated: found {size} bytes of the engine, the header says {header.num_bytes}"
        )
    return header


def _read_header_json(path: Path | str, file: BinaryIO) -> dict[str, Any]:
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        is_truncated = MAGIC.startswith(magic)
        raise CheckpointError(
            f"{path}: is truncated: the file has only {len(magic)} bytes"
            if is_truncated
            else f"{path}: is not an engine file of oneformer; `oneformer gen_trt_engine` writes one"
        )
    length = int.from_bytes(file.read(8), "big")
    text = file.read(min(length, MAX_HEADER))
    if len(text) < length or length == 0:
        raise CheckpointError(f"{path}: is truncated: found {len(text)} bytes of a header of {length}")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is damaged: {error}") from None
    number = header.get("format") if isinstance(header, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(
            f"{path}: has engine format {number}, but this version reads {FORMAT}; update oneformer-deploy"
        )
    if number != FORMAT:
        raise CheckpointError(f"{path}: its header is damaged (format {number!r})")
    assert isinstance(header, dict)
    return header
