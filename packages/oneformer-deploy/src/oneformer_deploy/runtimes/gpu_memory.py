"""Memory on one GPU and copies to and from it, by CUDA's own Python bindings: no torch."""

from __future__ import annotations

import weakref
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.errors import OneFormerError, UsageError

HINT = "python -m pip install cuda-bindings"


def cuda_runtime() -> ModuleType:
    """Return the bindings of CUDA's runtime; UsageError where they are not installed."""
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        raise UsageError(f"engines need CUDA's Python bindings; get them with: {HINT}")
    from cuda.bindings import runtime

    module: ModuleType = runtime
    return module


def count_gpus() -> int:
    """Return how many GPUs the driver shows; 0 without a driver."""
    error, count = cuda_runtime().cudaGetDeviceCount()
    return int(count) if int(error) == 0 else 0


def gpu_name(index: int) -> str:
    """Return what the maker calls a GPU."""
    properties = _checked(cuda_runtime().cudaGetDeviceProperties(index))
    return bytes(properties.name).split(b"\0")[0].decode()


def select_gpu(index: int) -> None:
    """Let this thread's CUDA calls, TensorRT's as well, go to one GPU."""
    _checked(cuda_runtime().cudaSetDevice(index))


class GpuMemory:
    """Named buffers that grow as needed, and one stream that all work is put on in order."""

    def __init__(self) -> None:
        self._cuda = cuda_runtime()
        self.stream = int(_checked(self._cuda.cudaStreamCreate()))
        self._buffers: dict[str, tuple[int, int]] = {}  # name -> address, bytes
        weakref.finalize(self, _free, self._cuda, self._buffers)

    def reserve(self, name: str, size: int) -> int:
        """Return the address of a buffer of at least `size` bytes."""
        address, have = self._buffers.get(name, (0, 0))
        if have < size:
            if have:
                self.synchronize()
                _checked(self._cuda.cudaFree(address))
                del self._buffers[name]
            address = int(_checked(self._cuda.cudaMalloc(size)))
            self._buffers[name] = address, size
        return address

    def upload(self, name: str, values: NDArray[np.float32]) -> int:
        """Copy an array that is contiguous into a buffer and return its address."""
        address = self.reserve(name, values.nbytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        _checked(self._cuda.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, kind, self.stream))
        return address

    def download(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a copy of a buffer as float32; it is filled once `synchronize` returns."""
        values = np.empty(shape, dtype=np.float32)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = self._buffers[name][0]
        _checked(self._cuda.cudaMemcpyAsync(values.ctypes.data, address, values.nbytes, kind, self.stream))
        return values

    def synchronize(self) -> None:
        """Wait for all work of the stream."""
        _checked(self._cuda.cudaStreamSynchronize(self.stream))


def _free(cuda: ModuleType, buffers: dict[str, tuple[int, int]]) -> None:
    for address, _ in buffers.values():
        cuda.cudaFree(address)


def _checked(answer: tuple[Any, ...]) -> Any:
    """Return the value behind CUDA's error code; OneFormerError where the code is one."""
    error, *values = answer
    if int(error) != 0:
        raise OneFormerError(f"CUDA: {getattr(error, 'name', error)}")
    return values[0] if values else None
