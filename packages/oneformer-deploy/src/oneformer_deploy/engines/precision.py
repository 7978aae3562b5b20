"""Which number format each layer of an ONNX graph computes in, and a graph rewritten so.

TensorRT takes the formats from the graph, so they are written into it: weights are stored in the format of the layer
that uses them, and a Cast stands where two formats meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from oneformer_deploy.layer_patterns import fitting, unknown
from oneformer_deploy.tensor_names import INPUTS, OUTPUTS
from oneformer_spec.errors import SpecError

FLOATS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
EIGHT_BITS = ("int8", "fp8")
FORMATS = (*FLOATS, *EIGHT_BITS)
_NUMPY = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_LARGEST_HALF = 65504.0

# Sums of many squares or exponentials: 10 to 16 bits lose what the layers after them divide by.
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
# What only moves numbers computes in the format that they come in.
MOVING = frozenset(
    "Expand Flatten Gather Identity Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split()  # noqa: SIM905
)
_ANY_INPUT = frozenset({"Cast", "Shape", "Size"})
_FIXED_INPUTS = {"Resize": (1, 2)}  # places of inputs that are float32 whatever the layer computes in
_PRODUCTS = frozenset({"Einsum", "MatMul"})


def delicate(graph: onnx.GraphProto) -> set[str]:
    """Return the names of nodes that lose accuracy in 16 bits.

    They are the norms; all that is computed from the task tokens alone, whose ids up to 49407 16 bits round; the
    positions where deformable attention samples; and the products of queries and pixels that give masks.
    """
    chosen = {node.name for node in graph.node if node.op_type in NORMALISING}
    chosen |= from_task_alone(graph)
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "GridSample":
            chosen |= _positions(node.input[1], makers)
    masks = _named(graph.output, OUTPUTS["mask_logits"])
    if (product := _maker(masks, makers)) is not None:
        others = {node.name for node in graph.node if node.op_type in _PRODUCTS and _shares(node, product)}
        chosen |= {product.name, *others}
    return chosen


def layer_formats(graph: onnx.GraphProto, data_type: str, patterns: Sequence[str]) -> dict[str, str]:
    """Return the format of every node: `data_type`, fp32 for what is delicate, and what `patterns` ask for.

    A pattern is name:format; the name may hold * and ?, and the last that fits a node wins.

    Raises:
        SpecError: A pattern is malformed or fits no node; the message names close ones.
    """
    gentle = delicate(graph)
    found = {node.name: "fp32" if node.name in gentle else data_type for node in graph.node}
    problems = []
    for text in patterns:
        name, colon, chosen = text.rpartition(":")
        chosen = chosen.strip().lower()
        if not colon or chosen not in FORMATS:
            problems.append(f"{text!r} is not layer:format, with a format of {', '.join(FORMATS)}")
            continue
        layers = fitting(name, found)
        if not layers:
            problems.append(unknown(name, found))
        found |= dict.fromkeys(layers, chosen)
    if problems:
        raise SpecError([f"gen_trt_engine.tensorrt.layers_precision: {problem}" for problem in problems])
    return found


def write_formats(model: onnx.ModelProto, formats: Mapping[str, str]) -> onnx.ModelProto:
    """Return a model whose nodes compute in fp32, fp16 or bf16 as `formats` says by name; inputs and outputs stay fp32.

    Every float input of a node is in the node's format afterwards. Nodes that only move numbers keep the format of
    what they move.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _Writer(result, formats).write()
    return result


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, which the exporters leave out at times."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)


def inline_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes that hold a tensor into initializers."""
    kept = []
    for node in graph.node:
        value = next((part.t for part in node.attribute if part.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


class _Writer:
    """Goes through a graph once, in order, and knows the format of every float tensor so far."""

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
            self._give_back(output.name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]  # it tells the formats from before
        used = {name for node in self.graph.node for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _write_node(self, node: NodeProto) -> None:
        chosen = self._format(node)
        if node.op_type not in _ANY_INPUT:
            fixed = _FIXED_INPUTS.get(node.op_type, ())
            for place, name in enumerate(node.input):
                if name in self.floats:
                    node.input[place] = self._as(name, "fp32" if place in fixed else chosen)
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
        """Return the name of a tensor in a format: itself, a converted constant, or what a new Cast gives."""
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

    def _give_back(self, name: str) -> None:
        """Let an output of the graph be fp32 under its own name."""
        if self.current.get(name, "fp32") == "fp32":
            return
        inner = f"{name}_inner"
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, other in enumerate(names):
                    if other == name:
                        names[place] = inner
        self.nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}_to_fp32", to=TensorProto.FLOAT))


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of float32 tensors."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _converted(tensor: TensorProto, name: str, wanted: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if wanted == "fp16":  # large numbers stand for infinity in masks; infinity itself stays
        values = np.where(np.isfinite(values), np.clip(values, -_LARGEST_HALF, _LARGEST_HALF), values)
    return numpy_helper.from_array(values.astype(_NUMPY[wanted]), name)


def _set_target(node: NodeProto, wanted: str) -> None:
    for part in node.attribute:
        if part.name == "to" and part.i == TensorProto.FLOAT:
            part.i = FLOATS[wanted]


def from_task_alone(graph: onnx.GraphProto) -> set[str]:
    """Return the nodes that depend on the task tokens and not on the image."""
    image, tokens = ({_named(graph.input, names)} for names in (INPUTS["image"], INPUTS["task_tokens"]))
    for node in graph.node:
        for reached in (image, tokens):
            if reached.intersection(node.input):
                reached.update(node.output)
    return {
        node.name for node in graph.node if tokens.intersection(node.output) and not image.intersection(node.output)
    }


def _named(values: Iterable[onnx.ValueInfoProto], names: Sequence[str]) -> str:
    """Return the name of an input or output that may be called several ways."""
    return next((value.name for value in values if value.name in names), "")


def _positions(name: str, makers: Mapping[str, NodeProto]) -> set[str]:
    """Return the nodes that give a tensor, back to the layers with weights."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found or node.op_type in (*_PRODUCTS, "Gemm", "Conv", "LayerNormalization"):
            continue
        found.add(node.name)
        waiting += node.input
    return found


def _maker(name: str, makers: Mapping[str, NodeProto]) -> NodeProto | None:
    """Return the node that computes a tensor, behind those that only move it."""
    node = makers.get(name)
    while node is not None and node.op_type in MOVING:
        node = makers.get(node.input[0])
    return node


def _shares(node: NodeProto, other: NodeProto) -> bool:
    return bool(set(_inputs(node)).intersection(_inputs(other)))


def _inputs(node: NodeProto) -> Iterable[str]:
    return (name for name in node.input if name)
