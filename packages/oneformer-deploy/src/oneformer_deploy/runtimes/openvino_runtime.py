"""Run `.onnx` files with OpenVINO, the fastest runtime on CPUs without torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oneformer_deploy.runtimes.interface import Interface, one_line, read_interface
from oneformer_deploy.runtimes.onnx_metadata import graph_source, read_onnx_file
from oneformer_spec.errors import CheckpointError, UsageError
from oneformer_spec.segmentation.segmenter import Run, Segmenter

if TYPE_CHECKING:
    import openvino

HINTS = {"fp32": "f32", "bf16": "bf16"}  # without a hint OpenVINO uses bf16 on every CPU that supports it


def open(
    path: Path | str,
    device: str = "auto",
    num_threads: int | None = None,
    key: str | None = None,
    precision: str = "fp32",
) -> Segmenter:
    """Open an ONNX file for segmentation with OpenVINO.

    Args:
        path: An ONNX file with a manifest in its metadata.
        device: "cpu", or "auto" for the same.
        num_threads: CPU threads; None: one per physical core.
        key: Key of an encrypted file; None: the value of ONEFORMER_ENCRYPTION_KEY.
        precision: "fp32", or "bf16" on CPUs with bf16 instructions; task tokens are processed in fp32 either way.

    Raises:
        CheckpointError: The file is missing, truncated, has no manifest or contradicts it, or the device does not
            exist.
        UsageError: OpenVINO is not installed, or the CPU does not support bf16.
    """
    path = Path(path)
    if device not in ("auto", "cpu"):
        raise CheckpointError(f"{path}: no device {device!r} for the runtime openvino; available: auto and cpu")
    if find_spec("openvino") is None:
        raise UsageError(
            "the runtime openvino needs openvino; install it with: python -m pip install 'oneformer-deploy[openvino]'"
        )
    manifest = read_onnx_file(path, key).manifest()

    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError(f"{path}: this CPU does not support bf16; set precision to fp32")
    try:
        model = core.read_model(graph_source(path, key))
        inputs, outputs = _axes(model.inputs), _axes(model.outputs)
    except CheckpointError:
        raise
    except Exception as error:  # RuntimeError, and what its frontends raise
        raise CheckpointError(f"{path}: openvino cannot load it: {one_line(error)}") from error
    interface = read_interface(path, inputs, outputs, manifest)
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
    if num_threads is not None:
        settings["INFERENCE_NUM_THREADS"] = num_threads
    tokens = len(next(iter(manifest.task_tokens.values())))
    return interface.segmenter(_runner(path, core, model, interface, tokens, settings), manifest)


def _axes(values: list[Any]) -> dict[str, list[int | None]]:
    """Return the axis sizes of tensors by name; None for open axes."""
    return {
        value.get_any_name(): [axis.get_length() if axis.is_static else None for axis in value.partial_shape]
        for value in values
    }


def _runner(
    path: Path,
    core: openvino.Core,
    model: openvino.Model,
    interface: Interface,
    tokens: int,
    settings: Mapping[str, Any],
) -> Run:
    """Compile the graph and return the function that runs it; `tokens` is the number of task tokens per image."""
    from oneformer_deploy.runtimes.openvino_graph import Graph
    from oneformer_deploy.runtimes.openvino_weighted_sums import use_embedding_bags  # needs openvino

    size = interface.size if interface.batch is None else None
    try:
        if size is not None:  # fully known shapes, one image at a time, are a fifth faster than an open batch
            shapes = {"image": [1, 3, *size], "task_tokens": [1, tokens]}
            model.reshape({interface.names[role]: shape for role, shape in shapes.items()})
        use_embedding_bags(model)
        graph = Graph(core, model, interface.names, settings)
    except Exception as error:  # RuntimeError, and what its frontends raise
        raise CheckpointError(f"{path}: openvino cannot compile it: {one_line(error)}") from error

    def run(image: NDArray[np.float32], task_tokens: NDArray[np.float32]) -> tuple[Any, Any]:
        try:
            if size is None or len(image) == 1:
                return graph.run(image, task_tokens)
            return graph.run_each(image, task_tokens)
        except Exception as error:  # as above
            raise CheckpointError(f"{path}: openvino failed at input {image.shape}: {one_line(error)}") from error

    return run
