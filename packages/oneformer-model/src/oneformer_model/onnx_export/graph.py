"""A network as an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import onnx
import onnx_ir
import onnxslim
import torch
from onnx.version_converter import convert_version
from onnx_ir.passes.common import DeduplicateHashedInitializersPass
from onnxscript import opset18
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from oneformer_model.backbones import Resampling
from oneformer_model.backbones.neighborhood_attention import NeighborhoodAttention
from oneformer_model.network.deformable_attention import DeformableAttention, sample_grids
from oneformer_model.network.oneformer import OneFormer
from oneformer_model.onnx_export.comparison import INPUTS, OUTPUTS, prove
from oneformer_model.onnx_export.older_operator_sets import GRID_SAMPLE_OPSET, recordable, sample_rows
from oneformer_spec.errors import OneFormerError
from oneformer_spec.segmentation.frame import Size
from oneformer_spec.segmentation.manifest import METADATA_KEY, Manifest
from oneformer_spec.tasks import TASKS

FIRST_DYNAMO_OPSET = 18  # the exporter of torch.export writes no older one
LAST_TORCHSCRIPT_OPSET = 20


class Shape(NamedTuple):
    """Input of an exported graph: `batch` None is open; height and width are open with `is_open`, examples then."""

    batch: int | None
    height: int
    width: int
    is_open: bool = False

    def __str__(self) -> str:
        """Return the shape as people read it, batch x channels x height x width."""
        size = "any height x any width" if self.is_open else f"{self.height} x {self.width}"
        return f"{'any' if self.batch is None else self.batch} x 3 x {size}"


class Graph(NamedTuple):
    """A graph, and the nodes that it has and had before it was slimmed."""

    model: onnx.ModelProto
    num_nodes: int
    num_nodes_before: int


class _Network(nn.Module):
    """The network with outputs as a plain tuple."""

    def __init__(self, model: OneFormer) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, task_tokens: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.model(image, task_tokens)
        return prediction.class_logits, prediction.mask_logits


def write_graph(
    model: OneFormer, manifest: Manifest, shape: Shape, *, opset: int, device: torch.device, verbose: bool = False
) -> Graph:
    """Return the slimmed graph of a model in eval mode on the CPU, its manifest inside, compared with the model.

    Args:
        model: What is written.
        manifest: What the graph says about itself.
        shape: Input of the graph.
        opset: ONNX operator set, from 12 on.
        device: Where the model is traced.
        verbose: Let the exporters talk.

    Raises:
        OneFormerError: torch cannot write this model in that opset or with open sizes, or the graph does not compute
            what the model does.
    """
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise OneFormerError(f"export.opset_version: {opset}: onnx {onnx.__version__} knows opsets up to {newest}")
    write = _write_dynamo if opset >= FIRST_DYNAMO_OPSET and not shape.is_open else _write_torchscript
    with torch.no_grad(), _exportable(model, shape, opset), quiet(verbose):
        try:
            if shape.is_open:
                _check_layout(model)
            network, example = _Network(model.to(device)).eval(), _example(manifest, shape, device)
            written = write(network, example, shape, opset, verbose)
            tensors = dict(zip((*INPUTS, *OUTPUTS), (*example, *network(*example)), strict=True))
            graph = _slimmed(written)
        except Exception as error:  # the exporters have many kinds
            field, how = ("dynamic_size", " with open sizes") if shape.is_open else ("opset_version", "")
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise OneFormerError(f"export.{field}: torch cannot write opset {opset}{how}: {reason}") from error
        finally:
            model.to("cpu")
    found = next(entry.version for entry in graph.opset_import if not entry.domain)
    if found != opset:
        raise OneFormerError(f"export.opset_version: torch {torch.__version__} wrote opset {found}, not {opset}")
    _describe(graph, tensors, manifest, shape)
    prove(graph, model, manifest, _sizes(shape, manifest.divisibility), shape.batch)
    return Graph(graph, len(graph.graph.node), len(written.graph.node))


def _check_layout(model: OneFormer) -> None:
    if any(isinstance(module, NeighborhoodAttention) for module in model.modules()):
        raise ValueError("neighbourhood attention is laid out for one size of image")


def _slimmed(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants, drop what is computed twice or for nothing, and keep equal constants once."""
    folded = onnx_ir.serde.deserialize_model(onnxslim.slim(graph))
    return onnx_ir.serde.serialize_model(DeduplicateHashedInitializersPass()(folded).model)


def _example(manifest: Manifest, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return an input to trace with; a batch or a size of one would be taken for fixed."""
    batch = shape.batch or 2
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, shape.height, shape.width, generator=generator)
    tokens = torch.tensor([manifest.task_tokens[TASKS[0]]], dtype=torch.float32).expand(batch, -1)
    return image.to(device), tokens.to(device)


def _sizes(shape: Shape, divisibility: int) -> list[Size]:
    """Return the sizes to compare at: for open ones two others than the traced one, as pictures are padded to them."""
    if not shape.is_open:
        return [(shape.height, shape.width)]
    rows, columns = -(-shape.height // divisibility), -(-shape.width // divisibility)
    others = (rows + 2, columns + 1), (columns, rows + 1)
    return [(height * divisibility, width * divisibility) for height, width in others]


def _write_torchscript(
    network: nn.Module, example: tuple[Tensor, Tensor], shape: Shape, opset: int, verbose: bool
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    traced = min(opset, LAST_TORCHSCRIPT_OPSET)
    with recordable(sizes_are_open=shape.is_open):
        torch.onnx.export(
            network,
            example,
            buffer,  # type: ignore[arg-type]  # this exporter takes files too
            dynamo=False,
            verbose=verbose,
            opset_version=traced,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: _open_axes(shape, name) for name in (*INPUTS, *OUTPUTS)},
        )
    graph = onnx.load_from_string(buffer.getvalue())
    return graph if traced == opset else convert_version(graph, opset)


def _write_dynamo(
    network: nn.Module, example: tuple[Tensor, Tensor], shape: Shape, opset: int, verbose: bool
) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1)
    # The fused kernels promise a memory layout that their decomposition does not keep.
    with sdpa_kernel(SDPBackend.MATH):
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            verbose=verbose,
            opset_version=opset,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes={name: {0: batch} for name in INPUTS} if shape.batch is None else None,
            custom_translation_table={torch.ops.aten.any.dim: _any},
        )
    assert program is not None
    return program.model_proto


def _any(x: Any, dim: int, keepdim: bool = False) -> Any:
    """Write `Tensor.any` as a sum: onnxruntime infers no symbolic shape for torch's ReduceMax, and int8 needs them."""
    operators: Any = opset18  # its annotations leave out what onnxscript makes constants of
    count = operators.ReduceSum(operators.Cast(x, to=onnx.TensorProto.INT64), [dim], keepdims=int(keepdim))
    return operators.Greater(count, 0)


@contextlib.contextmanager
def _exportable(model: OneFormer, shape: Shape, opset: int) -> Iterator[None]:
    """Sample deformable attention by what the operator set has, and resample no table in a graph of one size."""
    modules = [module for module in model.modules() if isinstance(module, DeformableAttention)]
    before = [module.sampler for module in modules]
    for module in modules:
        module.sampler = sample_grids if opset >= GRID_SAMPLE_OPSET else sample_rows
    held = contextlib.nullcontext() if shape.is_open else held_at(model.backbone, shape.height, shape.width)
    try:
        with held:
            yield
    finally:
        for module, sampler in zip(modules, before, strict=True):
            module.sampler = sampler


def held_at(backbone: object, height: int, width: int) -> AbstractContextManager[None]:
    """Resample a backbone's tables to one size of images beforehand, where it has such tables."""
    return backbone.at_size(height, width) if isinstance(backbone, Resampling) else contextlib.nullcontext()


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Keep the exporters' warnings to themselves: the comparison afterwards is what counts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
        try:
            with contextlib.nullcontext() if verbose else _stdout_closed():
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _stdout_closed() -> Iterator[None]:
    """Drop what is written to stdout below Python: the TorchScript exporter prints whole graphs when it fails."""
    sys.stdout.flush()
    terminal, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(terminal, 1)
        os.close(terminal)
        os.close(nowhere)


def _open_axes(shape: Shape, name: str) -> dict[int, str]:
    """Return the open axes of an input or output, and what they are called."""
    axes = {0: "batch"} if shape.batch is None else {}
    if shape.is_open and name == "image":
        axes |= {2: "height", 3: "width"}
    if shape.is_open and name == "mask_logits":
        axes |= {2: "mask_height", 3: "mask_width"}
    return axes


def _describe(graph: onnx.ModelProto, tensors: Mapping[str, Tensor], manifest: Manifest, shape: Shape) -> None:
    """State the axes of inputs and outputs, put the manifest in, and let the checker see the result."""
    for value in (*graph.graph.input, *graph.graph.output):
        axes, names = value.type.tensor_type.shape, _open_axes(shape, value.name)
        del axes.dim[:]
        for axis, size in enumerate(tensors[value.name].shape):
            axes.dim.add(**({"dim_param": names[axis]} if axis in names else {"dim_value": size}))
    described = manifest if shape.is_open else manifest.with_fixed_size((shape.height, shape.width))
    onnx.helper.set_model_props(graph, {METADATA_KEY: described.to_json()})
    onnx.checker.check_model(graph)
