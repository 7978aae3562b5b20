"""Run `.onnx` files with onnxruntime."""

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
    """Open an ONNX file for segmentation.

    Args:
        path: An ONNX file with a manifest in its metadata.
        device: "cpu", "cuda", "cuda:N", or "auto": CUDA if this onnxruntime supports it, else the CPU.
        num_threads: CPU threads per operator; None: one per physical core.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.

    Raises:
        CheckpointError: The file is missing, truncated, has no manifest or contradicts it, or the device does not
            exist.
    """
    return _open(Path(path), key, providers(Path(path), device), num_threads)


def open_tensorrt(
    path: Path | str, device: str = "auto", num_threads: int | None = None, key: str | None = None
) -> Segmenter:
    """Open an ONNX file on onnxruntime's TensorRT provider, which builds an engine when the first image arrives.

    Operators that TensorRT does not support run on CUDA. Arguments and errors are those of `open`, except that the
    device "cpu" is not available.
    """
    path = Path(path)
    cuda = providers(path, "cuda" if device == "auto" else device)[0]
    _require(path, TENSORRT, "the runtime onnxruntime-tensorrt")
    if not isinstance(cuda, tuple):
        raise CheckpointError(f"{path}: no device {device!r} for TensorRT; available: auto, cuda and cuda:N")
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
        # When cores are shared, idle threads must not block them by spinning while they wait for work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph_source(path, key), options, providers=providers)
    except CheckpointError:
        raise
    except Exception as error:  # onnxruntime has a dozen exception types without a common base
        raise CheckpointError(f"{path}: onnxruntime cannot load it: {one_line(error)}") from error


def providers(path: Path, device: str) -> list[Provider]:
    """Return onnxruntime's execution providers for a device, in order of preference.

    Raises:
        CheckpointError: The device does not exist; the message begins with `path`.
    """
    available = onnxruntime.get_available_providers()
    kind, _, number = device.partition(":")
    if kind == "auto":
        return [name for name in (CUDA, CPU) if name in available]
    if kind == "cpu" and not number:
        return [CPU]
    if kind != "cuda" or not (number or "0").isdecimal():
        raise CheckpointError(f"{path}: no device {device!r}; available: auto, cpu, cuda and cuda:N")
    _require(path, CUDA, f"device {device!r}")
    return [(CUDA, {"device_id": number or "0"}), CPU]


def _require(path: Path, provider: str, what: str) -> None:
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise CheckpointError(
            f"{path}: {what} needs onnxruntime's {provider}; this installation has {', '.join(available)}; "
            "install it with: python -m pip install onnxruntime-gpu"
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
