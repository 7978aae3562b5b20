"""Layers of an ONNX graph in INT8: weights per channel, activations by ranges that calibration measured.

The pairs of QuantizeLinear and DequantizeLinear (Q/DQ) are onnxruntime's. A layer is a MatMul or Gemm with constant
weights, or a Conv; attention's products of two activations stay as they are, and so does
what depends on the task tokens alone: ids up to 49407 do not fit into 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from oneformer_deploy.engines.precision import from_task_alone, inline_constants, name_nodes
from oneformer_deploy.quantization.calibration import Feed
from oneformer_deploy.runtimes.interface import one_line
from oneformer_deploy.runtimes.onnxruntime_runtime import Provider
from oneformer_spec.errors import OneFormerError

LAYERS = ("Conv", "Gemm", "MatMul")
PAIR = ("QuantizeLinear", "DequantizeLinear")
METHODS: Mapping[str, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
}
FLOAT8_LARGEST, INT8_LARGEST = 448.0, 127.0


@dataclass(frozen=True)
class Target:
    """How a runtime takes quantized layers.

    `activations` is their type, `symmetric` puts 0 in the middle, `float_outputs` are the layers whose result stays
    float: onnxruntime's INT8 Conv has no such form, TensorRT needs none quantized. `bias` quantizes biases to 32 bits.
    """

    activations: QuantType
    symmetric: bool
    float_outputs: tuple[str, ...]
    bias: bool


CPU = Target(QuantType.QUInt8, symmetric=False, float_outputs=("Gemm", "MatMul"), bias=True)
TENSORRT = Target(QuantType.QInt8, symmetric=True, float_outputs=LAYERS, bias=False)


@dataclass
class Quantizer:
    """A model, made ready and measured once, from which any choice of layers can be quantized.

    As a context it owns a folder of temporary files.
    """

    model: onnx.ModelProto
    feeds: Sequence[Feed]
    target: Target
    method: str = "minmax"
    providers: Sequence[Provider] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Prepare the graph and measure the ranges."""
        self._folder = tempfile.TemporaryDirectory(prefix="oneformer-quantize-")
        try:
            self.prepared = prepared(self.model)
            onnx.save(self.prepared, Path(self._folder.name) / "prepared.onnx")
            constants = {tensor.name for tensor in self.prepared.graph.initializer}
            exact = from_task_alone(self.prepared.graph)
            self.layers = {
                node.name: node.op_type
                for node in self.prepared.graph.node
                if node.op_type in LAYERS and node.input[1] in constants and node.name not in exact
            }
            self._names = {node.name for node in self.model.graph.node}
            if not self.layers:
                raise OneFormerError("the graph has no MatMul, Gemm or Conv with weights to quantize")
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the temporary files."""
        self._folder.cleanup()

    def origin(self, layer: str) -> str:
        """Return what the model as it was given calls a layer: preparing joins a MatMul with the Add behind it."""
        while layer not in self._names and "/" in layer:
            layer = layer.rpartition("/")[0]
        return layer

    def quantized(self, layers: Sequence[str]) -> onnx.ModelProto:
        """Return the model with these layers in INT8, the metadata of the model kept."""
        if not layers:
            return self.prepared
        folder = Path(self._folder.name)
        written = folder / "quantized.onnx"
        with _quiet():
            quantize_static(
                folder / "prepared.onnx",
                written,
                _Reader(self.feeds),
                op_types_to_quantize=list(LAYERS),
                nodes_to_quantize=list(layers),
                per_channel=True,
                activation_type=self.target.activations,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[self.method],
                calibration_providers=list(self.providers) if self.providers else None,
                calibration_cache_path=folder / "ranges.json",
                extra_options={
                    "ActivationSymmetric": self.target.symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": self.target.bias,
                    "MatMulConstBOnly": True,
                    "OpTypesToExcludeOutputQuantization": list(self.target.float_outputs),
                    **self.options,
                },
            )
        result = onnx.load(written)
        _copy_metadata(self.model, result)
        return result


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model as quantization wants it: constants folded, layers fused, every shape inferred."""
    with tempfile.TemporaryDirectory(prefix="oneformer-quantize-") as folder, _quiet():
        given, optimised, path = (Path(folder) / f"{name}.onnx" for name in ("given", "optimised", "prepared"))
        onnx.save(model, given)
        try:
            # Symbols are followed through the folded graph: in the exported one shapes are computed from shapes.
            quant_pre_process(given, optimised, skip_symbolic_shape=True)
            quant_pre_process(optimised, path, skip_optimization=True, auto_merge=True)
        except Exception as error:  # symbolic shape inference has no type of its own
            raise OneFormerError(f"the graph cannot be prepared for quantization: {one_line(error)}") from error
        result = onnx.load(path)
    _forget_symbols(result.graph)
    name_nodes(result)
    inline_constants(result.graph)
    _copy_metadata(model, result)
    return result


def _forget_symbols(graph: onnx.GraphProto) -> None:
    """Leave open sizes within the graph unnamed.

    Inference of shapes takes sizes for equal that are so at some image sizes alone, as before and after padding to
    whole windows, and onnxruntime would let them share memory.
    """
    for value in graph.value_info:
        for size in value.type.tensor_type.shape.dim:
            size.ClearField("dim_param")


def is_quantized(model: onnx.ModelProto) -> bool:
    """Tell whether a graph holds Q/DQ pairs."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def is_symmetric(model: onnx.ModelProto) -> bool:
    """Tell whether all Q/DQ pairs have 0 in the middle, as TensorRT wants them."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    zeros = {node.input[2] for node in model.graph.node if node.op_type in PAIR and len(node.input) > 2}
    return not any(numpy_helper.to_array(constants[name]).astype(np.float32).any() for name in zeros & constants.keys())


def to_fp8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose symmetric INT8 Q/DQ pairs are float8 (e4m3fn), with the same ranges.

    The largest value, 127 steps of INT8, becomes 448, the largest of e4m3fn; weights are rounded from what INT8 left.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    done: set[str] = set()
    for node in result.graph.node:
        if node.op_type not in PAIR:
            continue
        _, scale, zero = node.input
        if constants[zero].data_type != TensorProto.INT8:
            continue
        data = [node.input[0]] if node.op_type == "DequantizeLinear" and node.input[0] in constants else []
        for name in {zero, *data} - done:
            values = numpy_helper.to_array(constants[name]).astype(np.float32) * (FLOAT8_LARGEST / INT8_LARGEST)
            constants[name].CopyFrom(numpy_helper.from_array(values.astype(ml_dtypes.float8_e4m3fn), name))
        if scale not in done:
            steps = numpy_helper.to_array(constants[scale]) * np.float32(INT8_LARGEST / FLOAT8_LARGEST)
            constants[scale].CopyFrom(numpy_helper.from_array(steps.astype(np.float32), scale))
        done |= {zero, scale, *data}
    return result


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds in the form that onnxruntime asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:  # type: ignore[override, unused-ignore]
        return next(self._feeds, None)


def _copy_metadata(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    own = {entry.key for entry in source.metadata_props}
    kept = [entry for entry in target.metadata_props if entry.key not in own]
    entries = [*source.metadata_props, *kept]
    del target.metadata_props[:]
    target.metadata_props.extend(entries)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's remarks on its own steps off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
