"""Store weights in 8 bits with one scale per output channel; all computation stays in float32.

Weights are rounded to the nearest step: W ≈ scale * round(W / scale), where scale = max |W| / 127 of the channel. In
the graph a DequantizeLinear node replaces the float weights, so every runtime for ONNX 13 or later can read the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from oneformer_deploy.engines.precision import depending_on_task_only, drop_unused_initializers

LARGEST = 127


def layers(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the layers whose weights can be stored in 8 bits, and the kind of each, by name.

    Layers that depend only on the task tokens are left out: token ids of up to 49407 would magnify rounding errors.
    """
    constants = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    must_stay_float = depending_on_task_only(graph)
    return {
        node.name: node.op_type
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and node.input[1] in constants
        and node.name not in must_stay_float
    }


def store_int8(model: onnx.ModelProto, chosen: Sequence[str]) -> None:
    """Store the weights of the chosen layers in 8 bits, in place; other nodes that share these weights keep floats."""
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
    drop_unused_initializers(graph)


def rounded(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to int8 of the same shape; return them and the scale of each channel along `axis`, float32 (C,).

    A channel of zeros has scale 1.

    >>> values, scales = rounded(np.array([[0.5, -2.0], [0.0, 0.0]], dtype=np.float32), axis=0)
    >>> values.tolist(), scales.shape
    ([[32, -127], [0, 0]], (2,))
    """
    others = tuple(index for index in range(weights.ndim) if index != axis)
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
