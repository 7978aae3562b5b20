"""Weights in 8 bits, each output channel with a scale of its own; what is computed stays float32.

Rounded to nearest: W is about scale * round(W / scale) with scale = max |W| / 127 of the channel. In the graph a
DequantizeLinear stands where the weights were, so any runtime of ONNX 13 and later reads the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from oneformer_deploy.engines.precision import from_task_alone

LARGEST = 127


def layers(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the names of the layers whose weights can be stored so, with their kind.

    Those that depend on the task tokens alone stay: ids up to 49407 multiply rounding errors.
    """
    constants = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    exact = from_task_alone(graph)
    return {
        node.name: node.op_type
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants and node.name not in exact
    }


def store_int8(model: onnx.ModelProto, chosen: Sequence[str]) -> None:
    """Store the weights of layers in 8 bits, in place; weights that other nodes use too stay as they are for those."""
    graph, names = model.graph, set(chosen)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    done: dict[tuple[str, int], str] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name in names:
            weights, axis = constants[node.input[1]], _channel_axis(node, constants[node.input[1]])
            key = weights.name, axis
            if key not in done:
                done[key] = f"{weights.name}_dequantized_{axis}"
                values, scales = rounded(numpy_helper.to_array(weights), axis)
                stored, scale = f"{weights.name}_int8_{axis}", f"{weights.name}_scale_{axis}"
                graph.initializer.append(numpy_helper.from_array(values, stored))
                graph.initializer.append(numpy_helper.from_array(scales, scale))
                nodes.append(
                    helper.make_node(
                        "DequantizeLinear", [stored, scale], [done[key]], name=f"{done[key]}_node", axis=axis
                    )
                )
            node.input[1] = done[key]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def rounded(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return weights as int8 of the same shape, and the scale of each channel along `axis`; zeros have scale 1."""
    others = tuple(place for place in range(weights.ndim) if place != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    values = np.clip(np.rint(weights / scales), -LARGEST, LARGEST).astype(np.int8)
    return values, scales.reshape(-1)


def _channel_axis(node: NodeProto, weights: onnx.TensorProto) -> int:
    """Return the axis of a layer's output channels in its weights."""
    if node.op_type == "Conv":
        return 0  # (out, in, kernel, kernel)
    if node.op_type == "Gemm":
        return 0 if any(part.name == "transB" and part.i for part in node.attribute) else 1
    return len(weights.dims) - 1  # (in, out), with batch axes before
