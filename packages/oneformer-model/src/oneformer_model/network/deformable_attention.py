"""Multi-scale deformable attention (Deformable DETR, section 4.1) in plain torch.

Letters: B batch, Q queries, S tokens of all levels, M heads, D channels per head, L levels, P points per level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model.network.deformable_attention_cpu import Shapes, repeated, sample_bags
from oneformer_model.network.size_cache import are_sizes_open, numbers

Points = tuple[Tensor, Tensor]
"""x and y of sampling points, (B, Q, M * L * P) each, in pixels of their level: whole numbers are pixel centres."""

Sampler = Callable[[Tensor, Shapes, Points, Tensor], Tensor]
"""(value (B, S, M, D), shapes, points, weights (B, Q, M * L * P)) -> (B, Q, M * D); maps are zero beyond their edge."""


def sample_grids(value: Tensor, shapes: Shapes, points: Points, weights: Tensor) -> Tensor:
    """Sample level by level with `grid_sample`: the form for GPUs and for exported graphs.

    Queries are the last axis of all that is large: products and sums over the few points run along it.
    """
    _, _, heads, dim = value.shape
    levels = split_levels(value, shapes)
    x, y, weights = (
        part.unflatten(-1, (heads, len(shapes), -1)).permute(0, 2, 3, 4, 1).flatten(0, 1) for part in (*points, weights)
    )  # (B * M, L, P, Q) each
    sums = []
    for index, (height, width) in enumerate(shapes):
        grid = torch.stack(((x[:, index] * 2 + 1) / width - 1, (y[:, index] * 2 + 1) / height - 1), dim=-1)
        image = levels[index].permute(0, 2, 3, 1).reshape(-1, dim, height, width)  # (B * M, D, h, w)
        sampled = F.grid_sample(image.to(grid.dtype), grid, align_corners=False)  # (B * M, D, P, Q)
        sums.append((sampled * weights[:, None, index]).sum(dim=2))
    total = sum(sums[1:], sums[0])  # (B * M, D, Q); runtimes join sums with what follows, and copy stacks
    return total.unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2).to(value.dtype)


def sample_rows(value: Tensor, shapes: Shapes, points: Points, weights: Tensor) -> Tensor:
    """Gather the four neighbours of each point: the form for graphs of operator sets without GridSample."""
    batch, _, heads, dim = value.shape
    levels = split_levels(value, shapes)
    x, y, weights = (part.unflatten(-1, (heads, len(shapes), -1)) for part in (*points, weights))  # (B, Q, M, L, P)
    lanes = torch.arange(batch * heads, device=value.device).reshape(batch, 1, heads, 1)
    total: Tensor | None = None
    for index, (height, width) in enumerate(shapes):
        table = F.pad(levels[index].unflatten(1, (height, width)).permute(0, 3, 1, 2, 4), (0, 0, 1, 1, 1, 1))
        rows = table.reshape(-1, dim)  # (B * M * (h + 2) * (w + 2), D): a border of zeros lies around each map
        column, right = _cell(x[..., index, :], width)
        row, below = _cell(y[..., index, :], height)
        first = (lanes * (height + 2) + row) * (width + 2) + column  # (B, Q, M, P)
        for offset, share in (
            (0, (1 - right) * (1 - below)),
            (1, right * (1 - below)),
            (width + 2, (1 - right) * below),
            (width + 3, right * below),
        ):
            part = (share * weights[..., index, :])[..., None, :] @ rows[first + offset]  # (B, Q, M, 1, D)
            total = part if total is None else total + part
    assert total is not None
    return total.flatten(2).to(value.dtype)


def _cell(position: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the cell before each position on an axis with a border of one cell, int64, and the way from there.

    What lies beyond the border moves onto it, where all is zero.
    """
    inside = (position + 1).clamp(min=0).minimum(numbers((length + 1,), position.dtype, position.device))
    cell = inside.floor().minimum(numbers((length,), position.dtype, position.device))
    return cell.long(), inside - cell


def split_levels(tokens: Tensor, shapes: Shapes) -> tuple[Tensor, ...]:
    """Cut the tokens (B, S, …) of all levels into those of each."""
    sizes = [height * width for height, width in shapes]
    if not are_sizes_open():
        return tokens.split(sizes, dim=1)
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]  # older operator sets split at numbers alone
    return tuple(tokens[:, end - size : end] for size, end in zip(sizes, ends, strict=True))


def reference_points(shapes: Shapes, heads: int, points: int, device: torch.device) -> Points:
    """Return where the centre of each token's pixel lies in each level, in that level's pixels, (S, M * L * P) each."""
    x, y = [], []
    for height, width in shapes:
        rows = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        y.append(rows[:, None].expand(-1, width).flatten())
        x.append(columns.expand(height, -1).flatten())
    count = heads * len(shapes) * points
    widths = repeated(tuple(width for _, width in shapes), count, heads, torch.float32, device)
    heights = repeated(tuple(height for height, _ in shapes), count, heads, torch.float32, device)
    return torch.cat(x)[:, None] * widths - 0.5, torch.cat(y)[:, None] * heights - 0.5


class DeformableAttention(nn.Module):
    """Self-attention in which every token looks at a few learned points of every level."""

    sampler: Sampler | None
    """Which form computes the sampling; None chooses by device."""

    def __init__(self, dim: int, *, num_heads: int, num_levels: int, num_points: int, precise: bool = False) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self.num_heads, self.num_levels, self.num_points, self.precise = num_heads, num_levels, num_points, precise
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.sampler = None
        self._initialise()

    def _initialise(self) -> None:
        """Look at rings around the token: head m in direction m, point p at distance p + 1 (Deformable DETR)."""
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * distances[:, None]  # (M, 1, P, 2)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, position: Tensor, shapes: Shapes, reference: Points) -> Tensor:
        """Mix tokens (B, S, dim) of all levels, in the order of `shapes`; `position` is added to the queries."""
        if self.precise and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._attend(x.float(), position.float(), shapes, reference)
        return self._attend(x, position, shapes, reference)

    def _attend(self, x: Tensor, position: Tensor, shapes: Shapes, reference: Points) -> Tensor:
        query = x + position
        offsets = self.sampling_offsets(query).unflatten(-1, (-1, 2))  # (B, S, M * L * P, 2)
        points = offsets[..., 0] + reference[0], offsets[..., 1] + reference[1]
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(dim=-1).flatten(2)
        value = self.value(x).unflatten(-1, (self.num_heads, -1))
        sampler = self.sampler or (sample_bags if x.device.type == "cpu" else sample_grids)
        return cast(Tensor, self.output(sampler(value, shapes, points, weights)))
