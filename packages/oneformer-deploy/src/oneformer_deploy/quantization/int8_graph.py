"""Quantize layers of an ONNX graph to INT8: weights per channel, activations with the ranges found by calibration.

onnxruntime inserts the pairs of QuantizeLinear and DequantizeLinear (Q/DQ). A layer is a Conv, or a MatMul or Gemm with
constant weights. Products of two activations, as in attention, stay float, and so does everything that depends only on
the task tokens: their ids of up to 49407 do not fit into 8 bits.
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

from oneformer_deploy.engines.precision import depending_on_task_only, inline_constants, name_nodes
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
    """The form of quantized layers that a runtime supports.

    `activations` is the type of activations, `symmetric` centres their ranges on 0, `float_outputs` are the kinds of
    layers whose output stays float (onnxruntime has no INT8 Conv with a float output; TensorRT needs no quantized
    outputs), and `bias` quantizes biases to 32 bits.
    """

    activations: QuantType
    symmetric: bool
    float_outputs: tuple[str, ...]
    bias: bool


CPU = Target(QuantType.QUInt8, symmetric=False, float_outputs=("Gemm", "MatMul"), bias=True)
TENSORRT = Target(QuantType.QInt8, symmetric=True, float_outputs=LAYERS, bias=False)


@dataclass
class Quantizer:
    """A model that is prepared and calibrated once, and then quantized for any choice of layers.

    Use it as a context manager: it owns a folder of temporary files.
    """

    model: onnx.ModelProto
    feeds: Sequence[Feed]
    target: Target
    method: str = "minmax"
    providers: Sequence[Provider] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Prepare the graph and list the layers that can be quantized."""
        self._folder = tempfile.TemporaryDirectory(prefix="oneformer-quantize-")
        try:
            self.prepared = prepare(self.model)
            onnx.save(self.prepared, Path(self._folder.name) / "prepared.onnx")
            constants = {tensor.name for tensor in self.prepared.graph.initializer}
            must_stay_float = depending_on_task_only(self.prepared.graph)
            self.layers = {
                node.name: node.op_type
                for node in self.prepared.graph.node
                if node.op_type in LAYERS and node.input[1] in constants and node.name not in must_stay_float
            }
            self._original_names = {node.name for node in self.model.graph.node}
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
        """Return a layer's name in the original model; preparing fuses and renames, for instance MatMul and Add."""
        while layer not in self._original_names and "/" in layer:
            layer = layer.rpartition("/")[0]
        return layer

    def quantized(self, layers: Sequence[str]) -> onnx.ModelProto:
        """Return a copy of the model, metadata included, with these layers in INT8."""
        if not layers:
            return self.prepared
        folder = Path(self._folder.name)
        output = folder / "quantized.onnx"
        with _silenced():
            quantize_static(
                folder / "prepared.onnx",
                output,
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
        result = onnx.load(output)
        _copy_metadata(self.model, result)
        return result


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model ready for quantization: constants folded, layers fused, all shapes inferred."""
    with tempfile.TemporaryDirectory(prefix="oneformer-quantize-") as folder, _silenced():
        original, optimised, path = (Path(folder) / f"{name}.onnx" for name in ("original", "optimised", "prepared"))
        onnx.save(model, original)
        try:
            # Symbolic shape inference needs the folded graph: the exported one computes shapes from shapes.
            quant_pre_process(original, optimised, skip_symbolic_shape=True)
            quant_pre_process(optimised, path, skip_optimization=True, auto_merge=True)
        except Exception as error:  # symbolic shape inference raises plain exceptions
            raise OneFormerError(f"the graph cannot be prepared for quantization: {one_line(error)}") from error
        result = onnx.load(path)
    _forget_symbols(result.graph)
    name_nodes(result)
    inline_constants(result.graph)
    _copy_metadata(model, result)
    return result


def _forget_symbols(graph: onnx.GraphProto) -> None:
    """Remove the names that shape inference gave to open sizes inside the graph.

    It gives one name to sizes that are equal only for some image sizes, for instance before and after padding to whole
    windows. onnxruntime would then reuse buffers that are too small.
    """
    for value in graph.value_info:
        for size in value.type.tensor_type.shape.dim:
            size.ClearField("dim_param")


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph contains Q/DQ pairs."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def is_symmetric(model: onnx.ModelProto) -> bool:
    """Whether all Q/DQ pairs have a zero point of 0, as TensorRT requires."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    zeros = {node.input[2] for node in model.graph.node if node.op_type in PAIR and len(node.input) > 2}
    return not any(numpy_helper.to_array(constants[name]).astype(np.float32).any() for name in zeros & constants.keys())


def to_fp8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model whose symmetric INT8 Q/DQ pairs are float8 (e4m3fn) with the same ranges.

    The largest INT8 value, 127, maps to 448, the largest of e4m3fn. Weights are converted from their INT8 values, so
    they are rounded twice.
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
    """Hands calibration batches to onnxruntime."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:  # type: ignore[override, unused-ignore]
        return next(self._feeds, None)


def _copy_metadata(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    copied = {entry.key for entry in source.metadata_props}
    others = [entry for entry in target.metadata_props if entry.key not in copied]
    entries = [*source.metadata_props, *others]
    del target.metadata_props[:]
    target.metadata_props.extend(entries)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silence onnxruntime's log messages, warnings and prints."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
