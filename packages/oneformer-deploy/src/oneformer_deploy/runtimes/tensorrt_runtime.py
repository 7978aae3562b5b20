"""Run `.engine` files with TensorRT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.engines import library as tensorrt_library
from oneformer_deploy.engines.engine_file import EngineFacts, read_engine_file
from oneformer_deploy.runtimes import gpu_memory
from oneformer_deploy.tensor_names import INPUTS, OUTPUTS
from oneformer_spec.errors import CheckpointError, OneFormerError
from oneformer_spec.segmentation.segmenter import Segmenter


def open(path: Path | str, device: str = "auto", num_threads: int | None = None, key: str | None = None) -> Segmenter:
    """Open an engine file for segmentation.

    Args:
        path: An engine file written by `gen_trt_engine`.
        device: "cuda", "cuda:N", or "auto" for the first GPU.
        num_threads: Ignored: engines run on the GPU.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The file is missing, truncated, not an engine file, or built by another TensorRT version; or
            the GPU does not exist.
        UsageError: A package is missing; the message gives the pip command.
    """
    file = read_engine_file(path, key)
    library = tensorrt_library.load(_library(path, file.facts))
    if library.version != file.facts.version:
        raise CheckpointError(
            f"{path}: was built by {file.facts.library} {file.facts.version}, but {library.version} is installed; "
            "build it again with gen_trt_engine"
        )
    gpu_memory.select_gpu(_gpu(path, device))
    try:
        engine, runtime = library.deserialize(file.engine)
    except OneFormerError as error:
        raise CheckpointError(f"{path}: {error}") from None
    runner = EngineRunner(path, engine, file.facts, gpu_memory.GpuMemory(), float_type=library.module.DataType.FLOAT)
    runner.runtime = runtime
    return Segmenter(runner.run, file.manifest)


def _library(path: Path | str, facts: EngineFacts) -> str:
    if facts.library not in tensorrt_library.PACKAGES:
        raise CheckpointError(f"{path}: its header is damaged (library {facts.library!r})")
    return facts.library


def _gpu(path: Path | str, device: str) -> int:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or not (number or "0").isdecimal():
        raise CheckpointError(f"{path}: no device {device!r} for engines; available: auto, cuda and cuda:N")
    count = gpu_memory.count_gpus()
    if int(number or 0) >= count:
        raise CheckpointError(f"{path}: no device {device!r}: this host has {count} CUDA GPUs")
    return int(number or 0)


class Memory(Protocol):
    """Named buffers on a device; see `GpuMemory`."""

    stream: int

    def reserve(self, name: str, size: int) -> int: ...  # noqa: D102
    def upload(self, name: str, values: NDArray[np.float32]) -> int: ...  # noqa: D102
    def download(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]: ...  # noqa: D102
    def synchronize(self) -> None: ...  # noqa: D102


class EngineRunner:
    """Runs an engine on batches of any size; large batches are split, small ones are padded with zeros."""

    runtime: Any = None  # TensorRT's runtime must stay alive as long as its engine

    def __init__(self, path: Path | str, engine: Any, facts: EngineFacts, memory: Memory, *, float_type: Any) -> None:
        self.path = path
        self.engine = engine
        self.smallest, _, self.largest = facts.batch
        self.memory = memory
        self.context = engine.create_execution_context()
        if self.context is None:
            raise CheckpointError(f"{path}: TensorRT cannot create an execution context; the GPU may be out of memory")
        present = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.names = {role: _tensor_name(path, present, role, names) for role, names in (INPUTS | OUTPUTS).items()}
        for name in self.names.values():
            if engine.get_tensor_dtype(name) != float_type:
                raise CheckpointError(f"{path}: {name} is {engine.get_tensor_dtype(name)}, expected float32")

    def run(
        self, image: NDArray[np.float32], task_tokens: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Map images (B, 3, H, W) and task tokens (B, L) to class logits (B, Q, C + 1) and mask logits (B, Q, h, w)."""
        parts = []
        for start in range(0, len(image), self.largest):
            batch = slice(start, start + self.largest)
            parts.append(self._run({"image": image[batch], "task_tokens": task_tokens[batch]}))
        class_logits, mask_logits = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        return class_logits, mask_logits

    def _run(self, inputs: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        count = len(inputs["image"])
        for role, values in inputs.items():
            padded = _padded(values, self.smallest)
            if not self.context.set_input_shape(self.names[role], padded.shape):
                raise CheckpointError(f"{self.path}: the engine does not accept {role} of shape {padded.shape}")
            self.context.set_tensor_address(self.names[role], self.memory.upload(role, padded))
        shapes = {role: tuple(self.context.get_tensor_shape(self.names[role])) for role in OUTPUTS}
        for role, shape in shapes.items():
            size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
            self.context.set_tensor_address(self.names[role], self.memory.reserve(role, size))
        if not self.context.execute_async_v3(self.memory.stream):
            raise CheckpointError(f"{self.path}: TensorRT failed at input {inputs['image'].shape}")
        results = [self.memory.download(role, shape) for role, shape in shapes.items()]
        self.memory.synchronize()
        return [result[:count] for result in results]


def _padded(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return a contiguous float32 batch of at least `count` rows, padded with zeros."""
    missing = max(0, count - len(values))
    padded = np.concatenate([values, np.zeros((missing, *values.shape[1:]), np.float32)]) if missing else values
    return np.ascontiguousarray(padded, dtype=np.float32)


def _tensor_name(path: Path | str, present: Sequence[str], role: str, names: Sequence[str]) -> str:
    for name in names:
        if name in present:
            return name
    raise CheckpointError(f"{path}: the engine has no {role}; it has {', '.join(sorted(present))}")
