"""Sampling of deformable attention on CPUs: the four neighbours of all points of a query are one weighted bag of rows.

The forward pass is one `embedding_bag`. Its own backward pass adds the rows one by one; this one sorts the points by
the cell that they lie in and sums the gradient of every cell as a bag too, which takes a fifth of the time.

Letters: B batch, Q queries, S tokens of all levels, M heads, D channels per head, L levels, P points per level,
R rows of the table: a row per (sample, cell, head), where each level has a border of empty cells around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from oneformer_model.network.size_cache import cached_by_size

Shapes = tuple[tuple[int, int], ...]
"""(height, width) of each level."""


class Places(NamedTuple):
    """Where points lie, (B, Q, M * L * P) each: the row of the upper left neighbour, and what is left of x and y.

    The other neighbours are `heads`, `below` and `below + heads` rows further on; `below` is (M * L * P,).
    """

    row: Tensor
    x: Tensor
    y: Tensor
    below: Tensor

    def rows(self, heads: int) -> Tensor:
        """Return the rows of the four neighbours, (B * Q * M, 4 * L * P)."""
        neighbours = (self.row, self.row + heads, self.row + self.below, self.row + (self.below + heads))
        return self.bags(neighbours, heads)

    def shares(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return how much each neighbour counts, (B, Q, M * L * P) each."""
        both = self.x * self.y
        return 1 - self.x - self.y + both, self.x - both, self.y - both, both

    @staticmethod
    def bags(parts: Sequence[Tensor], heads: int) -> Tensor:
        """Join the neighbours' values (B, Q, M * L * P) to one bag per head: (B * Q * M, 4 * L * P)."""
        return torch.cat([part.view(-1, part.shape[-1] // heads) for part in parts], dim=1)


class _WeightedBags(torch.autograd.Function):
    """`sample` with its derivatives."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, x, y, weights)
        ctx.shapes = shapes
        return sample(value, shapes, x, y, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor, Tensor]:
        value, x, y, weights = ctx.saved_tensors
        heads, kept = value.shape[2], x.dtype
        places = _places(ctx.shapes, x, y, heads)
        gradient = gradients[0].reshape(-1, value.shape[3]).to(kept)  # (B * Q * M, D)
        moved = _scattered(gradient, ctx.shapes, places, weights.to(kept), value.shape)
        a, b, c, d = _products(gradient, _table(value.to(kept), ctx.shapes), places, heads)
        to_right, to_bottom, both = b - a, c - a, a - b - c + d
        step_x = torch.addcmul(to_right, both, places.y).mul_(weights) * _inside(x, ctx.shapes, heads, axis=1)
        step_y = torch.addcmul(to_bottom, both, places.x).mul_(weights) * _inside(y, ctx.shapes, heads, axis=0)
        mixed = a.addcmul(to_right, places.x).addcmul_(to_bottom, places.y).addcmul_(both, places.x * places.y)
        return moved.to(value.dtype), None, step_x, step_y, mixed.to(weights.dtype)


def sample_bags(value: Tensor, shapes: Shapes, points: tuple[Tensor, Tensor], weights: Tensor) -> Tensor:
    """Return the weighted sum of each query's points, (B, Q, M * D): the fastest form on CPUs.

    Args:
        value: Tokens of all levels, (B, S, M, D).
        shapes: Of the levels; maps are zero beyond their edge.
        points: x and y, (B, Q, M * L * P) each, in pixels of their level: whole numbers are pixel centres.
        weights: (B, Q, M * L * P).
    """
    if torch.is_grad_enabled() and any(part.requires_grad for part in (value, *points, weights)):
        return cast(Tensor, _WeightedBags.apply(value, shapes, *points, weights))
    return sample(value, shapes, *points, weights)


def sample(value: Tensor, shapes: Shapes, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Do what `sample_bags` does, without derivatives."""
    batch, _, heads, dim = value.shape
    places = _places(shapes, x, y, heads)
    sums = F.embedding_bag(
        places.rows(heads),
        _table(value, shapes),
        mode="sum",
        per_sample_weights=Places.bags([share * weights for share in places.shares()], heads).to(value.dtype),
    )
    return sums.view(batch, -1, heads * dim)


def _places(shapes: Shapes, x: Tensor, y: Tensor, heads: int) -> Places:
    """Find the neighbours of points; one beyond the border of its level moves onto the border, where all is zero."""
    batch, _, count = x.shape
    column, x = _cell(x, [width for _, width in shapes], heads)
    row, y = _cell(y, [height for height, _ in shapes], heads)
    below = _per_point([(width + 2) * heads for _, width in shapes], count, heads, torch.int32, x.device)
    first = _first_rows(shapes, batch, heads, count // (heads * len(shapes)), x.device)
    return Places(row * below + column * heads + first, x, y, below)


def _cell(position: Tensor, lengths: Sequence[int], heads: int) -> tuple[Tensor, Tensor]:
    """Return the cell before each position (B, Q, M * L * P) on an axis, counted from -1, and the way from there."""
    length = _per_point(lengths, position.shape[2], heads, position.dtype, position.device)
    position = position.clamp(torch.full_like(length, -1), length)
    cell = position.floor().minimum(length - 1)
    return cell.to(torch.int32), position - cell


def _inside(position: Tensor, shapes: Shapes, heads: int, *, axis: int) -> Tensor:
    """Return where a move along an axis changes anything: not beyond the border."""
    lengths = [shape[axis] for shape in shapes]
    length = _per_point(lengths, position.shape[2], heads, position.dtype, position.device)
    return (position >= -1) & (position < length)


def _table(value: Tensor, shapes: Shapes) -> Tensor:
    """Lay the levels (B, S, M, D) out with a border of zeros around each, (R, D)."""
    batch, _, heads, dim = value.shape
    table = value.new_zeros(batch, _cells(shapes), heads * dim)
    start, first = 0, 0
    for height, width in shapes:
        framed = table[:, first : first + (height + 2) * (width + 2)].view(batch, height + 2, width + 2, heads * dim)
        level = value[:, start : start + height * width].reshape(batch, height, width, heads * dim)
        framed[:, 1:-1, 1:-1] = level
        start, first = start + height * width, first + (height + 2) * (width + 2)
    return table.view(-1, dim)


def _scattered(gradient: Tensor, shapes: Shapes, places: Places, weights: Tensor, size: torch.Size) -> Tensor:
    """Return the gradient of the levels (B, S, M, D) from that of the bags (B * Q * M, D)."""
    batch, tokens, heads, dim = size
    per_bag = weights.shape[2] // heads
    table_rows = batch * _cells(shapes) * heads
    rows, order = places.row.flatten().sort(stable=True)  # the points, cell by cell
    starts = torch.searchsorted(rows, torch.arange(table_rows, dtype=rows.dtype, device=rows.device))
    bags = order.to(torch.int32) // per_bag
    by_corner = [
        F.embedding_bag(
            bags,
            gradient,
            offsets=starts.to(torch.int32),
            mode="sum",
            per_sample_weights=(share * weights).flatten().index_select(0, order),
        ).view(batch, -1, heads * dim)
        for share in places.shares()
    ]
    moved = gradient.new_empty(batch, tokens, heads * dim)
    start, first = 0, 0
    for height, width in shapes:
        here = [
            part[:, first : first + (height + 2) * (width + 2)].view(batch, height + 2, width + 2, -1)
            for part in by_corner
        ]
        level = moved[:, start : start + height * width].view(batch, height, width, -1)
        torch.add(here[0][:, 1:-1, 1:-1], here[1][:, 1:-1, :-2], out=level)
        level += here[2][:, :-2, 1:-1]
        level += here[3][:, :-2, :-2]
        start, first = start + height * width, first + (height + 2) * (width + 2)
    return moved.view(size)


def _products(gradient: Tensor, table: Tensor, places: Places, heads: int) -> tuple[Tensor, ...]:
    """Return the products of each bag's gradient with the four neighbours of its points, (B, Q, M * L * P) each."""
    rows = places.rows(heads)
    ones = gradient.new_ones(rows.shape).requires_grad_()
    with torch.enable_grad():
        sums = F.embedding_bag(rows, table, mode="sum", per_sample_weights=ones)
    (products,) = torch.autograd.grad(sums, ones, gradient)
    return tuple(part.reshape(places.row.shape) for part in products.chunk(4, dim=1))


def _cells(shapes: Shapes) -> int:
    return sum((height + 2) * (width + 2) for height, width in shapes)


def _per_point(values: Sequence[int], count: int, heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Repeat one value per level for every head and point, (M * L * P,): long rows are what the CPU computes fast."""
    return _repeated(tuple(values), count, heads, dtype, device)


@cached_by_size
def _repeated(values: tuple[int, ...], count: int, heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return one value per level, repeated for every head and point, (M * L * P,)."""
    levels = torch.tensor(values, dtype=dtype, device=device)[:, None]
    return levels.expand(heads, -1, count // (heads * len(values))).flatten()


@cached_by_size
def _first_rows(shapes: Shapes, batch: int, heads: int, points: int, device: torch.device) -> Tensor:
    """Return the table row of each point's level, sample and head, at the cell (0, 0), (B, 1, M * L * P)."""
    starts, cells = [], 0
    for height, width in shapes:
        starts.append(cells + width + 3)  # a border row and the border cell of the next
        cells += (height + 2) * (width + 2)
    level = torch.tensor(starts, dtype=torch.int32, device=device) * heads
    head = torch.arange(heads, dtype=torch.int32, device=device)
    sample = torch.arange(batch, dtype=torch.int32, device=device) * (cells * heads)
    first = sample[:, None, None] + head[:, None] + level  # (B, M, L)
    return first[..., None].expand(-1, -1, -1, points).flatten(1)[:, None]
