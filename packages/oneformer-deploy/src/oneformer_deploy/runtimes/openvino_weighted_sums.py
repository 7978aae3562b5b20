"""Speed up deformable attention in OpenVINO graphs: replace GridSample by EmbeddingBag, a weighted sum of rows.

For each query and head, EmbeddingBag sums the four neighbours of every sampling point directly from the value tensor.
GridSample would need each head as a separate image, followed by a product and a sum over the points.

Letters: B batch, Q queries, S tokens of all levels, M heads, D channels per head, L levels, P points per level.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import ArrayLike, NDArray
from openvino import PartialShape, Type, opset13
from openvino.passes import AnyInput, Matcher, Or, WrapType


class Sampling(NamedTuple):
    """The inputs of one deformable attention, as outputs of graph nodes."""

    value: Any
    """(B, S, M, D)."""
    x: Any
    """Sampling points (B, Q, M, L, P) in pixels of their level; whole numbers are pixel centres."""
    y: Any
    """As `x`."""
    weights: Any
    """(B, Q, M, L, P)."""
    shapes: NDArray[np.int32]
    """Height and width of each level, (L, 2)."""


def use_embedding_bags(model: openvino.Model) -> int:
    """Rewrite the deformable attention layers of a graph in place; return how many were rewritten.

    Only attention as `oneformer_model` exports it, with fixed sizes, is recognised; everything else stays unchanged.
    """
    nodes = model.get_ordered_ops()
    counts = {len(node.outputs()) for node in nodes if node.get_type_name() == "VariadicSplit"}
    patterns = [_Attention(levels) for levels in counts]
    ends = [node.output(0) for node in nodes if node.get_type_name() == "Reshape"]
    matches = [(end, sampling) for end in ends for pattern in patterns if (sampling := pattern.match(end)) is not None]
    for end, sampling in matches:
        targets = end.get_target_inputs()
        sums = opset13.transpose(_weighted_sums(sampling), np.array([0, 2, 1]))  # cancels the transpose that follows
        for target in targets:
            target.replace_source_output(sums.output(0))
    return len(matches)


class _Level(NamedTuple):
    """The patterns of one level's nodes."""

    sampler: Any
    part: Any
    """The level's part of the value, transposed to (B, M, D, cells)."""
    height: Any
    width: Any


class _Attention:
    """The graph pattern of a deformable attention with a number of levels; its output is (B, M * D, Q)."""

    def __init__(self, levels: int) -> None:
        self._value, self._x, self._y, self._weights = (AnyInput() for _ in range(4))
        self._numbers: list[tuple[Any, ArrayLike]] = []  # patterns of constants, and the values they must have
        self._levels: list[_Level] = []
        split = _op("VariadicSplit", self._value, self._number(1), AnyInput())
        points = [self._by_level(part) for part in (self._x, self._y, self._weights)]
        total, *others = [self._level(level, split, *points) for level in range(levels)]
        for part in others:
            total = _op("Add", total, part)
        split_batch = _op("Reshape", total, AnyInput())  # (B, M, D, Q), absent if exported with a fixed batch size
        self._matcher = Matcher(_op("Reshape", Or([total, split_batch]), AnyInput()), "deformable attention")

    def match(self, end: Any) -> Sampling | None:
        """Return the inputs of the attention whose output is `end`; None if `end` is the output of something else."""
        if not self._matcher.match(end):
            return None
        outputs = self._matcher.get_pattern_value_map()
        if any(not np.array_equal(_data(outputs[pattern]), number) for pattern, number in self._numbers):
            return None
        sources = [outputs[source] for source in (self._value, self._x, self._y, self._weights)]
        if any(source.get_partial_shape().is_dynamic or source.get_element_type() != Type.f32 for source in sources):
            return None
        value, x, y, weights = sources
        (batch, _, heads, dim), queries = value.get_shape(), x.get_shape()[1]
        if end.get_partial_shape() != PartialShape([batch, heads * dim, queries]):
            return None
        shapes = []
        for number, level in enumerate(self._levels):
            sampler, part = outputs[level.sampler].get_node(), outputs[level.part].get_node()
            images, _, *size = sampler.get_input_shape(0)
            sizes_agree = np.array_equal([_data(outputs[length]) for length in (level.height, level.width)], size)
            if sampler.get_attributes() != _SAMPLING or part.input_value(0).get_index() != number or not sizes_agree:
                return None
            if images != batch * heads or min(size) < 2:  # two neighbours need two cells
                return None
            shapes.append(size)
        return Sampling(value, x, y, weights, np.asarray(shapes, dtype=np.int32))

    def _level(self, number: int, split: Any, x: Any, y: Any, weights: Any) -> Any:
        """Return the pattern of one level's sums over its points, (B * M, D, Q)."""
        part = _op("Transpose", split, self._number([0, 2, 3, 1]))
        (columns, width), (rows, height) = self._coordinate(x, number), self._coordinate(y, number)
        sampler = _op("GridSample", _op("Reshape", part, AnyInput()), _op("Concat", columns, rows))
        self._levels.append(_Level(sampler, part, height, width))
        chosen = _op("Gather", _op("Unsqueeze", weights, AnyInput()), self._number(number), self._number(2))
        return _op("ReduceSum", _op("Multiply", sampler, chosen), self._number([2]))

    def _coordinate(self, position: Any, level: int) -> tuple[Any, Any]:
        """Return the patterns of a grid coordinate, (2 x + 1) / length - 1, and of the constant `length`."""
        length = _constant()
        chosen = _op("Gather", position, self._number(level), self._number(1))
        doubled = _op("Add", _op("Multiply", chosen, self._number(2)), self._number(1))
        grid = _op("Subtract", _op("Divide", doubled, length), self._number(1))
        return _op("Unsqueeze", grid, AnyInput()), length

    def _by_level(self, points: Any) -> Any:
        """Return the pattern that rearranges (B, Q, M, L, P) to (B * M, L, P, Q)."""
        return _op("Reshape", _op("Transpose", points, self._number([0, 2, 3, 4, 1])), AnyInput())

    def _number(self, expected: ArrayLike) -> Any:
        pattern = _constant()
        self._numbers.append((pattern, expected))
        return pattern


_SAMPLING = {"align_corners": False, "mode": "bilinear", "padding_mode": "zeros"}


def _op(name: str, *inputs: Any) -> Any:
    return WrapType(f"opset13.{name}", list(inputs))


def _constant() -> Any:
    return WrapType("opset13.Constant")


def _data(output: Any) -> NDArray[Any]:
    data: NDArray[Any] = output.get_node().get_data()
    return data


def _weighted_sums(sampling: Sampling) -> Any:
    """Add the nodes that compute the attention's sums, (B, Q, M * D).

    The cell before a point is clamped into its level. The weight of a neighbour falls linearly with its distance and is
    zero from one cell on, so points beyond the edge fade out as over a border of zeros. Row indices are integers, which
    lower precisions do not round. Unlike with GridSample, a NaN also spreads to points just outside the map.
    """
    batch, queries, heads, levels, points = sampling.x.get_shape()
    height, width = sampling.shapes.T[:, :, None]  # (L, 1) each
    column, column_weights = _neighbours(sampling.x, width)
    row, row_weights = _neighbours(sampling.y, height)
    first = opset13.add(opset13.multiply(row, width * heads), opset13.multiply(column, np.int32(heads)))
    first = opset13.add(first, _first_rows(batch, heads, sampling.shapes))
    rows = [first, *(opset13.add(first, step) for step in (np.int32(heads), heads * width, heads * (width + 1)))]
    weights = [opset13.multiply(opset13.multiply(y, sampling.weights), x) for y in row_weights for x in column_weights]
    bag = np.array([batch * queries * heads, levels * points])
    sums = opset13.embedding_bag_packed_sum(
        opset13.reshape(sampling.value, np.array([-1, sampling.value.get_shape()[3]]), False),
        opset13.concat([opset13.reshape(part, bag, False) for part in rows], 1),
        opset13.concat([opset13.reshape(part, bag, False) for part in weights], 1),
    )
    return opset13.reshape(sums, np.array([batch, queries, -1]), False)


def _neighbours(position: Any, length: NDArray[np.int32]) -> tuple[Any, tuple[Any, Any]]:
    """Return the cell before each position on an axis, int32, and the interpolation weights of it and the next cell."""
    cell = opset13.convert(opset13.floor(position), "i32")
    cell = opset13.minimum(opset13.maximum(cell, np.int32(0)), length - 2)
    offset = opset13.subtract(position, opset13.convert(cell, "f32"))
    distances = opset13.abs(offset), opset13.abs(opset13.subtract(offset, np.float32(1)))
    here, next_one = (opset13.relu(opset13.subtract(np.float32(1), distance)) for distance in distances)
    return cell, (here, next_one)


def _first_rows(batch: int, heads: int, shapes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the row of each level's first token, (B, 1, M, L, 1), in the value seen as a table of B * S * M rows."""
    cells = shapes.prod(axis=1)  # (L,)
    samples = np.arange(batch)[:, None, None] * cells.sum()
    rows = (samples + np.cumsum(cells) - cells) * heads + np.arange(heads)[:, None]  # (B, M, L)
    return np.asarray(rows[:, None, :, :, None], dtype=np.int32)
