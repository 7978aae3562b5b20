"""Read files of named tensors (torch's two formats, plain pickles, safetensors) without executing anything in them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from oneformer_model.adapters.unpickle import FindStorage, RefusedError, Storage, Unpickler, unwrap
from oneformer_spec.errors import CheckpointError, OneFormerError
from oneformer_spec.files.encryption import is_encrypted, open_decrypted

_CONTAINERS = ("state_dict", "model")  # where Lightning and detectron2 put the tensors
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first of the pickles of a torch file older than torch 1.6
_LENGTH = 8  # bytes of a number's count in such a file
_EXPORTED = (".onnx", ".etlt", ".engine")


def tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file by name; an encrypted one is opened with the key.

    Raises:
        CheckpointError: It is missing, damaged, holds no tensors, or asks for code to be run.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: does not exist")
    if path.suffix.lower() in _EXPORTED:
        raise CheckpointError(f"{path}: is an exported model; use the checkpoint that it was exported from")
    try:
        content = _safetensors(path, key) if path.suffix == ".safetensors" else _unpickled(path, key)
    except OneFormerError:
        raise
    except RefusedError as error:
        raise CheckpointError(f"{path}: refused: it {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is damaged or not a safetensors file: {_first_line(error)}") from None
    except Exception as error:  # a damaged or hostile pickle can fail anywhere, in any way
        raise CheckpointError(f"{path}: is damaged or contains no weights: {_first_line(error)}") from None
    found = _named_tensors(content)
    if not found:
        raise CheckpointError(f"{path}: contains no named tensors")
    return found


def _safetensors(path: Path, key: str | None) -> dict[str, Tensor]:
    if not is_encrypted(path):
        return load_file(path)  # maps the file instead of reading it
    with open_decrypted(path, key) as file:
        return load(file.read())


def _unpickled(path: Path, key: str | None) -> Any:
    with open_decrypted(path, key) as file:
        size = file.seek(0, os.SEEK_END)
        if zipfile.is_zipfile(file):
            return _zip(file, size)
        file.seek(0)
        if file.read(2) == b"PK":
            raise EOFError("a zip archive without its end")
        file.seek(0)
        first = Unpickler(file).load()
        return _legacy(file, size) if first == _LEGACY_MAGIC else first


def _zip(file: IO[bytes], size: int) -> Any:
    """Read torch's zip format: one pickle and one uncompressed record per storage."""
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise RefusedError("unpacks to more than its own size")
        (pickled,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise RefusedError("contains numbers in big-endian order")
        found: dict[tuple[str, torch.dtype], Storage] = {}

        def find(dtype: torch.dtype, key: str, count: int) -> Storage:
            if (key, dtype) not in found:
                content = bytearray(archive.read(f"{root}data/{key}"))
                values = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
                found[key, dtype] = Storage(values)
            return found[key, dtype]

        with archive.open(pickled) as stream:
            return Unpickler(stream, find).load()


def _legacy(file: IO[bytes], size: int) -> Any:
    """Read torch's older format after its magic number: four pickles, then the numbers of each storage."""
    Unpickler(file).load()  # protocol
    Unpickler(file).load()  # sizes of the writer's integers
    found: dict[str, Storage] = {}
    content = Unpickler(file, _allocating(found, size)).load()
    for key in Unpickler(file).load():
        values = found[key].values
        count = int.from_bytes(file.read(_LENGTH), "little")
        data = bytearray(file.read(len(values) * values.itemsize))
        if count != len(values) or len(data) != len(values) * values.itemsize:
            raise EOFError("the file ends inside a tensor")
        if data:
            values.copy_(torch.frombuffer(data, dtype=values.dtype))
    return content


def _allocating(found: dict[str, Storage], size: int) -> FindStorage:
    """Return a function that creates storages to be filled later, no larger than a file of `size` bytes can hold."""

    def find(dtype: torch.dtype, key: str, count: int) -> Storage:
        if not 0 <= count * dtype.itemsize <= size:
            raise RefusedError(f"contains a tensor of {count} numbers in a file of {size} bytes")
        return found.setdefault(key, Storage(torch.empty(count, dtype=dtype)))

    return find


def _named_tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a mapping, or of the nested mapping that contains them."""
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
    found = ((name, unwrap(value)) for name, value in inner.items() if isinstance(name, str))
    return {name: value for name, value in found if value is not None}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
