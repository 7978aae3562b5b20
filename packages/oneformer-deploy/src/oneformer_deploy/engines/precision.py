"""Choose the number format (fp32, fp16, bf16, …) of each layer and rewrite an ONNX graph accordingly.

TensorRT reads the formats from the graph, so they are written into it: weights are stored in the format of the layer
that uses them, and Cast nodes are inserted where two formats meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from oneformer_deploy.layer_patterns import matching, no_match
from oneformer_deploy.tensor_names import INPUTS, OUTPUTS
from oneformer_spec.errors import SpecError

FLOATS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
EIGHT_BITS = ("int8", "fp8")
FORMATS = (*FLOATS, *EIGHT_BITS)
_NUMPY = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_LARGEST_HALF = 65504.0

# Their sums of many squares are divisors later on, and 16-bit formats round those too coarsely.
NORMALISING = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Pow",
        "ReduceL2",
        "ReduceMean",
        "ReduceSumSquare",
        "Sqrt",
    }
)
# Nodes that only move numbers keep the format of their input.
MOVING = frozenset(
    "Expand Flatten Gather Identity Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split()  # noqa: SIM905
)
_ANY_INPUT = frozenset({"Cast", "Shape", "Size"})
_FIXED_INPUTS = {"Resize": (1, 2)}  # positions of inputs that are float32 in every format
_PRODUCTS = frozenset({"Einsum", "MatMul"})


def precision_sensitive(graph: onnx.GraphProto) -> set[str]:
    """Return the names of nodes that lose too much accuracy in 16-bit formats.

    These are the normalisation layers; everything computed from the task tokens alone, whose ids of up to 49407 would
    be rounded; the sampling positions of deformable attention; and the products of queries and pixels that yield masks.
    """
    sensitive = {node.name for node in graph.node if node.op_type in NORMALISING}
    sensitive |= depending_on_task_only(graph)
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "GridSample":
            sensitive |= _positions(node.input[1], makers)
    masks = _named(graph.output, OUTPUTS["mask_logits"])
    if (product := _maker(masks, makers)) is not None:
        others = {node.name for node in graph.node if node.op_type in _PRODUCTS and _share_an_input(node, product)}
        sensitive |= {product.name, *others}
    return sensitive


def layer_formats(graph: onnx.GraphProto, data_type: str, patterns: Sequence[str]) -> dict[str, str]:
    """Return the number format of every node by its name.

    By default that is fp32 for precision-sensitive nodes and `data_type` for all others. Each of `patterns` overrides
    this: a pattern is name:format, the name may contain * and ?, and the last pattern that matches a node wins.

    Raises:
        SpecError: A pattern is malformed or matches no node; the message names similar nodes.
    """
    sensitive = precision_sensitive(graph)
    formats = {node.name: "fp32" if node.name in sensitive else data_type for node in graph.node}
    errors = []
    for text in patterns:
        name, colon, chosen = text.rpartition(":")
        chosen = chosen.strip().lower()
        if not colon or chosen not in FORMATS:
            errors.append(f"found {text!r}, expected layer:format with one of the formats {', '.join(FORMATS)}")
            continue
        layers = matching(name, formats)
        if not layers:
            errors.append(no_match(name, formats))
        formats |= dict.fromkeys(layers, chosen)
    if errors:
        raise SpecError([f"gen_trt_engine.tensorrt.layers_precision: {error}" for error in errors])
    return formats


def write_formats(model: onnx.ModelProto, formats: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy of the model in which each node computes in its format from `formats` (fp32, fp16 or bf16).

    The graph's inputs and outputs stay fp32. Every float input of a node is converted to the node's format; nodes that
    only move numbers keep the format of their input.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Writer(result, formats).write()
    return result


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a unique name; exporters leave some nodes without one."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)


def inline_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes with a tensor value into initializers."""
    others = []
    for node in graph.node:
        value = next((part.t for part in node.attribute if part.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
        else:
            others.append(node)
    del graph.node[:]
    graph.node.extend(others)


class _Writer:
    """Rewrites a graph in one pass over its nodes, tracking the current format of every float tensor."""

    def __init__(self, model: onnx.ModelProto, formats: Mapping[str, str]) -> None:
        inline_constants(model.graph)
        self.graph = model.graph
        self.formats = formats
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.floats = _float_tensors(model)
        self.current = dict.fromkeys(self.floats, "fp32")
        self.nodes: list[NodeProto] = []
        self.converted: dict[tuple[str, str], str] = {}
        self.consumers = {name: node for node in reversed(model.graph.node) for name in node.input}

    def write(self) -> None:
        for node in list(self.graph.node):
            self._write_node(node)
        for output in self.graph.output:
            self._restore_output(output.name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]  # it still has the original formats
        drop_unused_initializers(self.graph)

    def _write_node(self, node: NodeProto) -> None:
        chosen = self._format(node)
        if node.op_type not in _ANY_INPUT:
            fixed = _FIXED_INPUTS.get(node.op_type, ())
            for index, name in enumerate(node.input):
                if name in self.floats:
                    node.input[index] = self._as(name, "fp32" if index in fixed else chosen)
        if node.op_type == "Cast":
            _set_target(node, chosen)
        sources = node.op_type in ("ConstantOfShape", "RandomNormal", "RandomUniform", "Range")
        self.current |= dict.fromkeys(
            (name for name in node.output if name in self.floats), "fp32" if sources else chosen
        )
        self.nodes.append(node)

    def _format(self, node: NodeProto) -> str:
        if node.op_type in MOVING or node.op_type == "QuantizeLinear":
            return self.current.get(node.input[0], "fp32")
        wanted = self.formats.get(node.name, "fp32")
        if (
            node.op_type == "DequantizeLinear" and node.output[0] in self.consumers
        ):  # TensorRT fuses it with its consumer
            wanted = self.formats.get(self.consumers[node.output[0]].name, wanted)
        return wanted

    def _as(self, name: str, wanted: str) -> str:
        """Return the name of the tensor in the wanted format, converting the constant or adding a Cast if needed."""
        if self.current[name] == wanted:
            return name
        key = name, wanted
        if key not in self.converted:
            self.converted[key] = f"{name}_{wanted}"
            if name in self.constants:
                self.graph.initializer.append(_converted(self.constants[name], self.converted[key], wanted))
            else:
                self.nodes.append(
                    helper.make_node(
                        "Cast", [name], [self.converted[key]], name=f"{name}_to_{wanted}", to=FLOATS[wanted]
                    )
                )
        return self.converted[key]

    def _restore_output(self, name: str) -> None:
        """Make an output of the graph fp32 again, under its original name."""
        if self.current.get(name, "fp32") == "fp32":
            return
        inner = f"{name}_inner"
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, other in enumerate(names):
                    if other == name:
                        names[index] = inner
        self.nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}_to_fp32", to=TensorProto.FLOAT))


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove the initializers that no node reads."""
    used = {name for node in graph.node for name in node.input}
    remaining = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(remaining)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 tensors: weights, inputs, outputs and values in between."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    computed = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return computed | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _converted(tensor: TensorProto, name: str, wanted: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if wanted == "fp16":  # masks use large finite numbers for infinity, which must not overflow to infinity
        values = np.where(np.isfinite(values), np.clip(values, -_LARGEST_HALF, _LARGEST_HALF), values)
    return numpy_helper.from_array(values.astype(_NUMPY[wanted]), name)


def _set_target(node: NodeProto, wanted: str) -> None:
    for part in node.attribute:
        if part.name == "to" and part.i == TensorProto.FLOAT:
            part.i = FLOATS[wanted]


def depending_on_task_only(graph: onnx.GraphProto) -> set[str]:
    """Return the names of nodes that depend on the task tokens but not on the image."""
    image, tokens = ({_named(graph.input, names)} for names in (INPUTS["image"], INPUTS["task_tokens"]))
    for node in graph.node:
        for reached in (image, tokens):
            if reached.intersection(node.input):
                reached.update(node.output)
    return {
        node.name for node in graph.node if tokens.intersection(node.output) and not image.intersection(node.output)
    }


def _named(values: Iterable[onnx.ValueInfoProto], names: Sequence[str]) -> str:
    """Return the name of the first value that has one of `names`, or an empty string."""
    return next((value.name for value in values if value.name in names), "")


def _positions(name: str, makers: Mapping[str, NodeProto]) -> set[str]:
    """Return the nodes that compute a tensor, going back to the nearest layers with weights (not included)."""
    visited: set[str] = set()
    waiting = [name]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in visited or node.op_type in (*_PRODUCTS, "Gemm", "Conv", "LayerNormalization"):
            continue
        visited.add(node.name)
        waiting += node.input
    return visited


def _maker(name: str, makers: Mapping[str, NodeProto]) -> NodeProto | None:
    """Return the node that computes a tensor, looking through nodes that only move it."""
    node = makers.get(name)
    while node is not None and node.op_type in MOVING:
        node = makers.get(node.input[0])
    return node


def _share_an_input(node: NodeProto, other: NodeProto) -> bool:
    return bool(set(_inputs(node)).intersection(_inputs(other)))


def _inputs(node: NodeProto) -> Iterable[str]:
    return (name for name in node.input if name)
