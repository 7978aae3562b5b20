"""GPU memory and copies to and from it, through CUDA's own Python bindings instead of torch."""

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
    """Import the Python bindings of the CUDA runtime.

    Raises:
        UsageError: They are not installed; the message gives the pip command.
    """
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        raise UsageError(f"engines need CUDA's Python bindings; install them with: {HINT}")
    from cuda.bindings import runtime

    module: ModuleType = runtime
    return module


def count_gpus() -> int:
    """Return the number of CUDA GPUs; 0 without a driver."""
    error, count = cuda_runtime().cudaGetDeviceCount()
    return int(count) if int(error) == 0 else 0


def gpu_name(index: int) -> str:
    """Return the product name of a GPU."""
    properties = _checked(cuda_runtime().cudaGetDeviceProperties(index))
    return bytes(properties.name).split(b"\0")[0].decode()


def select_gpu(index: int) -> None:
    """Make a GPU current for all CUDA calls of this thread, including TensorRT's."""
    _checked(cuda_runtime().cudaSetDevice(index))


class GpuMemory:
    """Named GPU buffers that grow as needed, and one CUDA stream on which all work runs in order."""

    def __init__(self) -> None:
        self._cuda = cuda_runtime()
        self.stream = int(_checked(self._cuda.cudaStreamCreate()))
        self._buffers: dict[str, tuple[int, int]] = {}  # name -> address, bytes
        weakref.finalize(self, _free, self._cuda, self._buffers)

    def reserve(self, name: str, size: int) -> int:
        """Return the address of a buffer of at least `size` bytes."""
        address, capacity = self._buffers.get(name, (0, 0))
        if capacity < size:
            if capacity:
                self.synchronize()
                _checked(self._cuda.cudaFree(address))
                del self._buffers[name]
            address = int(_checked(self._cuda.cudaMalloc(size)))
            self._buffers[name] = address, size
        return address

    def upload(self, name: str, values: NDArray[np.float32]) -> int:
        """Start copying a contiguous array into a buffer and return the buffer's address."""
        address = self.reserve(name, values.nbytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        _checked(self._cuda.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, kind, self.stream))
        return address

    def download(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Start copying a buffer into a new float32 array and return it; it is complete after `synchronize`."""
        values = np.empty(shape, dtype=np.float32)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = self._buffers[name][0]
        _checked(self._cuda.cudaMemcpyAsync(values.ctypes.data, address, values.nbytes, kind, self.stream))
        return values

    def synchronize(self) -> None:
        """Wait for all work on the stream."""
        _checked(self._cuda.cudaStreamSynchronize(self.stream))


def _free(cuda: ModuleType, buffers: dict[str, tuple[int, int]]) -> None:
    for address, _ in buffers.values():
        cuda.cudaFree(address)


def _checked(result: tuple[Any, ...]) -> Any:
    """Unpack the (error code, value) that CUDA's bindings return; raise OneFormerError if the call failed."""
    error, *values = result
    if int(error) != 0:
        raise OneFormerError(f"CUDA: {getattr(error, 'name', error)}")
    return values[0] if values else None
