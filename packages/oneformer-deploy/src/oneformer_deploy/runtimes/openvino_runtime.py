"""OpenVINO as a runtime of `.onnx` files: the fastest on CPUs without torch."""

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

HINTS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's own choice is bf16 wherever the CPU has it


def open(
    path: Path | str,
    device: str = "auto",
    num_threads: int | None = None,
    key: str | None = None,
    precision: str = "fp32",
) -> Segmenter:
    """The model of an ONNX file on OpenVINO.

    Args:
        path: The file, with a manifest in its metadata.
        device: "cpu" or "auto", which is the CPU.
        num_threads: CPU threads; None takes one per physical core.
        key: Of an encrypted file; None takes ONEFORMER_ENCRYPTION_KEY.
        precision: "fp32", or "bf16" where the CPU multiplies bf16; the task's tokens stay in fp32.

    Raises:
        CheckpointError: The file is missing, truncated, foreign or contradicts its manifest, or there is no device.
        UsageError: OpenVINO is not installed, or the CPU lacks bf16.
    """
    path = Path(path)
    if device not in ("auto", "cpu"):
        raise CheckpointError(f"{path}: no device {device!r}: the runtime openvino runs on auto or cpu")
    if find_spec("openvino") is None:
        raise UsageError(
            "the runtime openvino needs openvino; get it with: python -m pip install 'oneformer-deploy[openvino]'"
        )
    manifest = read_onnx_file(path, key).manifest()

    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError(f"{path}: this CPU does not multiply bf16; set precision to fp32")
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
    """The sizes of tensors' axes by name, None where one is open."""
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
    """Return what runs batches of pictures with `tokens` task tokens each; a graph of one size runs them singly."""
    from oneformer_deploy.runtimes.openvino_graph import Graph
    from oneformer_deploy.runtimes.openvino_weighted_sums import sample_by_bags  # needs openvino

    size = interface.size if interface.batch is None else None
    try:
        if size is not None:  # known shapes are a fifth faster than an open batch
            shapes = {"image": [1, 3, *size], "task_tokens": [1, tokens]}
            model.reshape({interface.names[role]: shape for role, shape in shapes.items()})
        sample_by_bags(model)
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
