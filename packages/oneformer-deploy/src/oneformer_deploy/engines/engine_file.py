"""Engine files: TensorRT's serialised engine behind a header that says which model it is and what may open it.

An engine holds machine code for one TensorRT version and kind of GPU. So nothing of the file reaches TensorRT before
the header fits: magic, length of the header (8 bytes, big end first), header (JSON), engine. All of it may be
encrypted, see `oneformer_spec.files.encryption`.
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
from oneformer_spec.files.encryption import encrypted, opened
from oneformer_spec.segmentation.manifest import Manifest

MAGIC = b"oneformer engine\n"
FORMAT = 1
MAX_HEADER = 64 * 2**20  # bytes, far above any label map


@dataclass(frozen=True)
class EngineFacts:
    """What a header says beside the manifest.

    `library` and `version` name the TensorRT that built it, `data_type` the format asked for, `batch` the smallest,
    tuned and largest batch, and `gpu` the device it was built on, None where it was built without one.
    """

    library: str
    version: str
    data_type: str
    batch: tuple[int, int, int]
    gpu: str | None


@dataclass(frozen=True)
class EngineHeader:
    """A file's manifest and facts, and the size and SHA-256 that its engine must have."""

    manifest: Manifest
    facts: EngineFacts
    num_bytes: int
    digest: str


@dataclass(frozen=True)
class EngineFile:
    """One file's manifest, facts and engine."""

    manifest: Manifest
    facts: EngineFacts
    engine: bytes

    def write(self, path: Path, key: str | None = None) -> None:
        """Write the file, encrypted where there is a key, or leave what was there."""
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
    """Read a file that `write` wrote; nothing in it is executed.

    Without a key, ONEFORMER_ENCRYPTION_KEY is taken for an encrypted file.

    Raises:
        CheckpointError: It is missing, foreign, truncated, damaged, of a newer format, or encrypted with another key.
    """
    with _opened(path, key) as file:
        header = _read_header(path, file)
        engine = file.read()
    if hashlib.sha256(engine).hexdigest() != header.digest:
        raise CheckpointError(f"{path}: is damaged: its checksum does not fit")
    return EngineFile(header.manifest, header.facts, engine)


def read_engine_header(path: Path | str, key: str | None = None) -> EngineHeader:
    """Read what a file says about its engine, whose content is not looked at; errors as in `read_engine_file`."""
    with _opened(path, key) as file:
        return _read_header(path, file)


@contextmanager
def _opened(path: Path | str, key: str | None) -> Iterator[BinaryIO]:
    try:
        with opened(path, key) as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def _read_header(path: Path | str, file: BinaryIO) -> EngineHeader:
    """Return the header; the file then stands at its engine, which is as long as the header says or longer."""
    header = _header(path, file)
    manifest = Manifest.from_dict(header.get("manifest"), path)
    try:
        low, tuned, high = (int(size) for size in header["batch"])
        facts = EngineFacts(
            str(header["library"]), str(header["version"]), str(header["data_type"]), (low, tuned, high), header["gpu"]
        )
        found = EngineHeader(manifest, facts, int(header["bytes"]), str(header["sha256"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is damaged ({type(error).__name__}: {error})") from None
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    if size < found.num_bytes:
        raise CheckpointError(f"{path}: is truncated: {size} bytes of an engine of {found.num_bytes}")
    return found


def _header(path: Path | str, file: BinaryIO) -> dict[str, Any]:
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        cut = MAGIC.startswith(magic)
        raise CheckpointError(
            f"{path}: is truncated: {len(magic)} bytes"
            if cut
            else f"{path}: is no engine of oneformer; `oneformer gen_trt_engine` writes one"
        )
    length = int.from_bytes(file.read(8), "big")
    text = file.read(min(length, MAX_HEADER))
    if len(text) < length or length == 0:
        raise CheckpointError(f"{path}: is truncated: {len(text)} bytes of a header of {length}")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is damaged: {error}") from None
    number = header.get("format") if isinstance(header, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(
            f"{path}: has engine format {number}, this version reads {FORMAT}; update oneformer-deploy"
        )
    if number != FORMAT:
        raise CheckpointError(f"{path}: its header is damaged (format {number!r})")
    assert isinstance(header, dict)
    return header
