"""A network as an ONNX graph, and the proof that the graph computes what the network does."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from oneformer_model.backbones import Resampling
from oneformer_model.deformable import DeformableAttention, sample_grids
from oneformer_model.oneformer import OneFormer
from oneformer_spec.errors import OneFormerError
from oneformer_spec.manifest import METADATA_KEY, Manifest
from oneformer_spec.tasks import TASKS

INPUTS, OUTPUTS = ("image", "task_tokens"), ("class_logits", "mask_logits")
FIRST_DYNAMO_OPSET = 18  # the exporter of torch.export writes no older one
TOLERANCE = 1e-3  # of the largest logit
_ATTEMPTS = 3
_ERRORS_ONLY = 3  # onnxruntime's log level


class Shape(NamedTuple):
    """Input of an exported graph: `batch` None is open."""

    batch: int | None
    height: int
    width: int


class _Graph(nn.Module):
    """The network with outputs as a plain tuple."""

    def __init__(self, model: OneFormer) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, task_tokens: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.model(image, task_tokens)
        return prediction.class_logits, prediction.mask_logits


def write_graph(
    model: OneFormer, manifest: Manifest, shape: Shape, *, opset: int, device: torch.device, verbose: bool = False
) -> onnx.ModelProto:
    """Return the graph of a model in eval mode on the CPU, its manifest inside, compared with the model.

    Args:
        model: What is written.
        manifest: What the graph says about itself.
        shape: Input of the graph.
        opset: ONNX operator set.
        device: Where the model is traced.
        verbose: Let the exporters talk.

    Raises:
        OneFormerError: torch cannot write this model in that opset, or the graph does not compute what the model does.
    """
    cases = _cases(model, manifest, shape, seed=0)
    batch = shape.batch or 2  # an example of one would be taken for a fixed batch
    example = tuple(part.expand(batch, *part.shape[1:]).to(device) for part in (cases[0].image, cases[0].task_tokens))
    write = _write_dynamo if opset >= FIRST_DYNAMO_OPSET else _write_torchscript
    with torch.no_grad(), _exportable(model, shape), _quiet(verbose):
        try:
            graph = write(_Graph(model.to(device)).eval(), (example[0], example[1]), shape, opset, verbose)
        except Exception as error:  # the exporters have many kinds
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise OneFormerError(f"export.opset_version: torch cannot write opset {opset}: {reason}") from error
        finally:
            model.to("cpu")
    written = next(entry.version for entry in graph.opset_import if not entry.domain)
    if written != opset:
        raise OneFormerError(f"export.opset_version: torch {torch.__version__} wrote opset {written}, not {opset}")
    _finish(graph, manifest, shape, cases[0])
    _compare(graph, model, manifest, shape, cases)
    return graph


def _write_torchscript(
    graph: nn.Module, example: tuple[Tensor, Tensor], shape: Shape, opset: int, verbose: bool
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    open_axes = {name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)}
    torch.onnx.export(
        graph,
        example,
        buffer,  # type: ignore[arg-type]  # this exporter takes files too
        dynamo=False,
        verbose=verbose,
        opset_version=opset,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes=open_axes if shape.batch is None else None,
    )
    return onnx.load_from_string(buffer.getvalue())


def _write_dynamo(
    graph: nn.Module, example: tuple[Tensor, Tensor], shape: Shape, opset: int, verbose: bool
) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1)
    # The fused kernels promise a memory layout that their decomposition does not keep.
    with sdpa_kernel(SDPBackend.MATH):
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            verbose=verbose,
            opset_version=opset,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes={name: {0: batch} for name in INPUTS} if shape.batch is None else None,
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _exportable(model: OneFormer, shape: Shape) -> Iterator[None]:
    """Sample deformable attention by grids, which ONNX has an operator for, and resample no table in the graph."""
    backbone: object = model.backbone
    modules = [module for module in model.modules() if isinstance(module, DeformableAttention)]
    before = [module.sampler for module in modules]
    for module in modules:
        module.sampler = sample_grids
    held = backbone.at_size(shape.height, shape.width) if isinstance(backbone, Resampling) else contextlib.nullcontext()
    try:
        with held:
            yield
    finally:
        for module, sampler in zip(modules, before, strict=True):
            module.sampler = sampler


@contextlib.contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keep the exporters' warnings to themselves: the comparison afterwards is what counts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _finish(graph: onnx.ModelProto, manifest: Manifest, shape: Shape, case: _Case) -> None:
    """Name the axes of inputs and outputs, put the manifest in, and let the checker see the result."""
    for value in (*graph.graph.input, *graph.graph.output):
        axes = value.type.tensor_type.shape
        del axes.dim[:]
        if shape.batch is None:
            axes.dim.add(dim_param="batch")
        else:
            axes.dim.add(dim_value=shape.batch)
        for size in getattr(case, value.name).shape[1:]:
            axes.dim.add(dim_value=size)
    fixed = manifest.with_fixed_size((shape.height, shape.width))
    onnx.helper.set_model_props(graph, {METADATA_KEY: fixed.to_json()})
    onnx.checker.check_model(graph)


class _Case(NamedTuple):
    """An input of one image and what the network makes of it."""

    image: Tensor
    task_tokens: Tensor
    class_logits: Tensor
    mask_logits: Tensor


def _cases(model: OneFormer, manifest: Manifest, shape: Shape, seed: int) -> list[_Case]:
    """Return one case per task: soft blobs under noise, drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for task in TASKS:
        blobs = torch.randn(1, 3, shape.height // 16, shape.width // 16, generator=generator) * 2
        image = nn.functional.interpolate(blobs, size=(shape.height, shape.width), mode="bilinear")
        image = image + torch.randn(image.shape, generator=generator) * 0.2
        tokens = torch.tensor([manifest.task_tokens[task]], dtype=torch.float32)
        with torch.inference_mode():
            prediction = model(image, tokens)
        cases.append(_Case(image, tokens, prediction.class_logits, prediction.mask_logits))
    return cases


def _compare(
    graph: onnx.ModelProto, model: OneFormer, manifest: Manifest, shape: Shape, cases: Sequence[_Case]
) -> None:
    """Run the graph and compare all logits; a fresh image is tried where they differ.

    A mask logit on the edge of its threshold may turn one bit of an attention mask, which moves the queries of that
    image. A wrong graph is wrong for every image.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    differences: list[float] = []
    for seed in range(_ATTEMPTS):
        cases = cases if seed == 0 else _cases(model, manifest, shape, seed)
        differences.append(max(_difference(session, [cases[row] for row in rows]) for rows in _batches(shape.batch)))
        if differences[-1] <= TOLERANCE:
            return
    raise OneFormerError(
        f"the exported graph is wrong: its logits differ from the checkpoint's by {min(differences):.2g} of the largest"
    )


def _batches(batch: int | None) -> list[list[int]]:
    """Return which tasks stand in each batch: an open batch is tried with one row and with three."""
    if batch is None:
        return [[0], [1], [2], [0, 1, 2]]
    return [[(task + row) % len(TASKS) for row in range(batch)] for task in range(len(TASKS))]


def _difference(session: onnxruntime.InferenceSession, cases: Sequence[_Case]) -> float:
    """Return the largest difference of class or mask logits, each as a part of the largest logit of its kind."""
    feeds = {name: torch.cat([getattr(case, name) for case in cases]).numpy() for name in INPUTS}
    found: Sequence[NDArray[np.float32]] = session.run(list(OUTPUTS), feeds)
    differences = []
    for name, logits in zip(OUTPUTS, found, strict=True):
        expected = torch.cat([getattr(case, name) for case in cases]).numpy()
        if logits.shape != expected.shape:
            raise OneFormerError(f"the exported graph is wrong: {name} has shape {logits.shape}, not {expected.shape}")
        differences.append(float(np.abs(logits - expected).max() / np.abs(expected).max()))
    return max(differences)
