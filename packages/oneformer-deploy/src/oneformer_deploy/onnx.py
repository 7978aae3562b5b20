"""The runtime of `.onnx` files: onnxruntime behind a Segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from oneformer_deploy.model_names import INPUTS, OUTPUTS
from oneformer_deploy.onnx_file import read_onnx_file
from oneformer_spec.errors import CheckpointError
from oneformer_spec.manifest import Manifest
from oneformer_spec.segmenter import Run, Segmenter

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
ERRORS_ONLY = 3  # onnxruntime's log level

Provider = str | tuple[str, dict[str, str]]


def open(path: Path | str, device: str = "auto", num_threads: int | None = None) -> Segmenter:
    """The model of an ONNX file.

    Args:
        path: The file, with a manifest in its metadata.
        device: "cpu", "cuda", "cuda:N", or "auto": CUDA where this onnxruntime has it, else the CPU.
        num_threads: CPU threads of one operator; None leaves the choice to onnxruntime.

    Raises:
        CheckpointError: The file is missing, truncated, foreign or contradicts its manifest, or there is no device.
    """
    path = Path(path)
    manifest = read_onnx_file(path).manifest()
    session = _session(path, providers(path, device), num_threads)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = _names(path, inputs, INPUTS) | _names(path, outputs, OUTPUTS)
    shapes = {value.name: value.shape for value in (*inputs, *outputs)}
    _check(path, {role: shapes[name] for role, name in names.items()}, manifest)
    batch, _, height, width = (edge if isinstance(edge, int) else None for edge in shapes[names["image"]])
    fixed_size = (height, width) if height and width else None
    return Segmenter(_runner(path, session, names), replace(manifest, fixed_size=fixed_size), fixed_batch=batch)


def _session(path: Path, providers: Sequence[Provider], num_threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = num_threads or 0  # 0: onnxruntime's own choice
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
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
    if CUDA not in available:
        raise CheckpointError(
            f"{path}: device {device!r} needs onnxruntime's {CUDA}, here are {', '.join(available)}; "
            "get it with: python -m pip install onnxruntime-gpu"
        )
    return [(CUDA, {"device_id": number or "0"}), CPU]


def _names(path: Path, values: Sequence[Any], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the graph calls each role. CheckpointError where one is missing."""
    present = {value.name for value in values}
    found = {role: next((name for name in names if name in present), None) for role, names in roles.items()}
    missing = [role for role, name in found.items() if name is None]
    if missing:
        raise CheckpointError(f"{path}: the graph has no {' or '.join(missing)}, only {', '.join(sorted(present))}")
    return {role: name for role, name in found.items() if name is not None}


def _check(path: Path, shapes: Mapping[str, Sequence[int | str | None]], manifest: Manifest) -> None:
    """CheckpointError where a fixed axis of the graph contradicts the manifest."""
    if len(shapes["image"]) != 4:
        raise CheckpointError(f"{path}: image has {len(shapes['image'])} axes, not batch, channel, height, width")
    expected = {
        ("image", 1): (3, "colour channels"),
        ("task_tokens", 1): (len(next(iter(manifest.task_tokens.values()))), "task tokens"),
        ("class_logits", 2): (len(manifest.labels) + 1, "classes and one for no object"),
    }
    for (role, axis), (size, what) in expected.items():
        found = shapes[role][axis] if axis < len(shapes[role]) else None  # an axis may be unknown
        if isinstance(found, int) and found != size:
            raise CheckpointError(f"{path}: {role} has {found} entries on axis {axis}, the manifest {size} {what}")


def _runner(path: Path, session: onnxruntime.InferenceSession, names: Mapping[str, str]) -> Run:
    wanted = [names["class_logits"], names["mask_logits"]]

    def run(image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> tuple[Any, Any]:
        try:
            class_logits, mask_logits = session.run(wanted, {names["image"]: image, names["task_tokens"]: task_tokens})
        except Exception as error:  # as above
            raise CheckpointError(f"{path}: onnxruntime failed at input {image.shape}: {one_line(error)}") from error
        return class_logits, mask_logits

    return run


def one_line(error: BaseException) -> str:
    """Return what an error says on one line."""
    return " ".join(str(error).split()) or type(error).__name__
