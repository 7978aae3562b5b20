"""Read pickles of weights without executing anything that they refer to.

A pickle names functions and classes and calls them. Here a name becomes one of a few functions of this module that
rebuild tensors and arrays, or an inert placeholder; nothing is ever imported. Names that can only be an attack (those
of the standard library beside plain data, functions of torch and numpy) end the reading with an error.
"""

from __future__ import annotations

import math
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

# Modules of the standard library with harmless data types; they become placeholders, as those of other packages do.
_DATA_MODULES = {
    "argparse",
    "collections",
    "copyreg",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "logging",
    "numbers",
    "pathlib",
    "types",
    "typing",
    "uuid",
}
_PLAIN_TYPES = {
    "bool",
    "bytearray",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
}
_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


class RefusedError(pickle.UnpicklingError):
    """The pickle refers to something that weights never need."""


class Placeholder:
    """Placeholder for an object that is not rebuilt; it accepts and ignores everything the pickle gives it."""

    def __new__(cls, *args: object, **kwargs: object) -> Placeholder:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Ignore the arguments."""

    def __call__(self, *args: object, **kwargs: object) -> Placeholder:
        """Ignore a call."""
        return self

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an item."""

    def append(self, value: object) -> None:
        """Ignore an item."""

    def extend(self, values: object) -> None:
        """Ignore items."""

    def add(self, value: object) -> None:
        """Ignore an item."""


@dataclass(frozen=True)
class Storage:
    """The flat array of numbers (N,) that tensors are views of."""

    values: Tensor


FindStorage = Callable[[torch.dtype, str, int], Storage]
"""(type, key, number of numbers) -> the storage that a torch file keeps outside of its pickle."""


class Unpickler(pickle._Unpickler):
    """Rebuilds plain data, tensors and arrays of numbers; raises RefusedError where a pickle wants more.

    It is the form in Python of Python's own: in the one in C ten bytes can ask for a memo of many gigabytes.
    """

    # A bytearray is read as bytes, for which no memory is taken before they are there.
    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
    }

    def __init__(self, file: IO[bytes], find_storage: FindStorage | None = None) -> None:
        """Read from `file`; text of Python 2 is taken as bytes of the same value."""
        super().__init__(file, encoding="latin1")
        self._find_storage = find_storage

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a tensor of a torch file names."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(count), *_) if self._find_storage is not None:
                return self._find_storage(dtype, key, count)
        raise RefusedError("refers to data outside a torch file")

    def find_class(self, module: str, name: str) -> Any:
        """Return the object or placeholder for a name in the pickle."""
        module = IMPORT_MAPPING.get(module, module)  # protocols below 3 use Python 2's names
        if (module, name) in _KNOWN:
            return _fresh(_KNOWN[module, name])
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        package = module.partition(".")[0]
        is_class = name.rpartition(".")[2][:1].isupper()
        harmless = {
            "builtins": name in _PLAIN_TYPES,
            "torch": is_class or name == "device" or isinstance(vars(torch).get(name), torch.dtype),
            "numpy": is_class or name in ("dtype", "ndarray", "scalar"),
        }.get(package, module in _DATA_MODULES or package not in sys.stdlib_module_names)
        if not harmless:
            raise RefusedError(f"refers to {module}.{name}, which weights never need")
        return type("Placeholder", (Placeholder,), {})


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a fresh placeholder class for this pickle, because a pickle can set attributes on classes it refers to."""
    return lambda *args: function(*args)


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    if math.prod(size) > len(storage.values):  # strides of 0 could blow a few bytes up to any size
        raise RefusedError(f"contains a tensor of shape {list(size)} with only {len(storage.values)} numbers")
    return storage.values.as_strided(size, stride, offset)


def _parameter(data: Any, *_: object) -> Any:
    return data


def _subclass(function: Callable[..., Any], kind: object, args: tuple[object, ...], state: object) -> Any:
    return function(*args)


def _ordered(*items: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*items)


class _NumberType:
    """A numpy dtype that is being read; numpy's own `__setstate__` is never called with data from the pickle."""

    def __init__(self, name: Any, *_: object) -> None:
        text = name if isinstance(name, str) else ""
        self.kind = np.dtype(text) if text[:1] in tuple("?bhilqefdBHILQu") else None
        self.big_endian = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.big_endian = state[1] == ">"

    def array(self, content: bytes | bytearray | memoryview, shape: tuple[int, ...], fortran: bool) -> Any:
        if self.kind is None:
            raise RefusedError("contains an array of objects")
        values = np.frombuffer(content, self.kind.newbyteorder(">" if self.big_endian else "<"))
        return np.reshape(values, shape, order="F" if fortran else "C")


class _Array:
    """A numpy array that is being read; `value` is set by `__setstate__`."""

    value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, number_type, fortran, content = state
        if not isinstance(number_type, _NumberType):
            raise RefusedError("contains an array of objects")
        raw = content.encode("latin1") if isinstance(content, str) else content
        self.value = number_type.array(raw, shape, bool(fortran))


def _array(*_: object) -> _Array:
    return _Array()


def _array_of_buffer(content: Any, number_type: Any, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((shape, number_type, order == "F", content))
    return array


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _bytes,  # bytes in pickles of Python 2
    ("builtins", "bytes"): lambda: b"",
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_of_buffer for core in ("core", "_core")},
}


def unwrap(value: object) -> Tensor | None:
    """Return a clean tensor, without attributes that a pickle may have set, or None for anything else."""
    if isinstance(value, _Array) and value.value is not None:
        return torch.from_numpy(np.array(value.value, dtype=value.value.dtype.newbyteorder("=")))
    return value.detach() if isinstance(value, Tensor) else None
