"""The runtime of `.onnx` files: onnxruntime behind a Segmenter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from oneformer_deploy.runtimes.interface import one_line, read_interface
from oneformer_deploy.runtimes.onnx_metadata import graph_source, read_onnx_file
from oneformer_spec.errors import CheckpointError
from oneformer_spec.segmentation.segmenter import Run, Segmenter

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
ERRORS_ONLY = 3  # onnxruntime's log level

Provider = str | tuple[str, dict[str, str]]


def open(path: Path | str, device: str = "auto", num_threads: int | None = None, key: str | None = None) -> Segmenter:
    """The model of an ONNX file.

    Args:
        path: The file, with a manifest in its metadata.
        device: "cpu", "cuda", "cuda:N", or "auto": CUDA where this onnxruntime has it, else the CPU.
        num_threads: CPU threads of one operator; None takes one per physical core.
        key: Of an encrypted file; None takes ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The file is missing, truncated, foreign or contradicts its manifest, or there is no device.
    """
    return _open(Path(path), key, providers(Path(path), device), num_threads)


def open_tensorrt(
    path: Path | str, device: str = "auto", num_threads: int | None = None, key: str | None = None
) -> Segmenter:
    """The model of an ONNX file on onnxruntime's TensorRT provider, which builds an engine when the first image comes.

    What TensorRT does not take runs on CUDA. Arguments and errors are those of `open`, without the device "cpu".
    """
    path = Path(path)
    cuda = providers(path, "cuda" if device == "auto" else device)[0]
    _require(path, TENSORRT, "the runtime onnxruntime-tensorrt")
    if not isinstance(cuda, tuple):
        raise CheckpointError(f"{path}: no device {device!r} for TensorRT; there are auto, cuda and cuda:N")
    return _open(path, key, [(TENSORRT, cuda[1]), cuda, CPU], num_threads)


def _open(path: Path, key: str | None, providers: Sequence[Provider], num_threads: int | None) -> Segmenter:
    manifest = read_onnx_file(path, key).manifest()
    session = _session(path, key, providers, num_threads)
    inputs, outputs = (
        {value.name: value.shape for value in part} for part in (session.get_inputs(), session.get_outputs())
    )
    interface = read_interface(path, inputs, outputs, manifest)
    return interface.segmenter(_runner(path, session, interface.names), manifest)


def _session(
    path: Path, key: str | None, providers: Sequence[Provider], num_threads: int | None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = num_threads or 0  # 0: one per physical core
    if num_threads or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        # Whoever leaves cores to others does not want threads that wait for work by spinning on them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph_source(path, key), options, providers=providers)
    except CheckpointError:
        raise
    except Exception as error:  # onnxruntime has a dozen exception types of no common base
        raise CheckpointError(f"{path}: onnxruntime cannot load it: {one_line(error)}") from error


def providers(path: Path, device: str) -> list[Provider]:
    """Return what onnxruntime runs a file on, in order; CheckpointError where there is no such device."""
    available = onnxruntime.get_available_providers()
    kind, _, number = device.partition(":")
    if kind == "auto":
        return [name for name in (CUDA, CPU) if name in available]
    if kind == "cpu" and not number:
        return [CPU]
    if kind != "cuda" or not (number or "0").isdecimal():
        raise CheckpointError(f"{path}: no device {device!r}; there are auto, cpu, cuda and cuda:N")
    _require(path, CUDA, f"device {device!r}")
    return [(CUDA, {"device_id": number or "0"}), CPU]


def _require(path: Path, provider: str, what: str) -> None:
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise CheckpointError(
            f"{path}: {what} needs onnxruntime's {provider}, here are {', '.join(available)}; "
            "get it with: python -m pip install onnxruntime-gpu"
        )


def _runner(path: Path, session: onnxruntime.InferenceSession, names: Mapping[str, str]) -> Run:
    wanted = [names["class_logits"], names["mask_logits"]]

    def run(image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> tuple[Any, Any]:
        try:
            class_logits, mask_logits = session.run(wanted, {names["image"]: image, names["task_tokens"]: task_tokens})
        except Exception as error:  # as above
            raise CheckpointError(f"{path}: onnxruntime failed at input {image.shape}: {one_line(error)}") from error
        return class_logits, mask_logits

    return run
