"""Multi-scale deformable attention (Deformable DETR, section 4.1) in plain torch.

Letters: B batch, Q queries, S tokens of all levels, M heads, D channels per head, L levels, P points per level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model.network.deformable_attention_cpu import Shapes, sample_bags

Points = tuple[Tensor, Tensor]
"""x and y of sampling points, (B, Q, M * L * P) each, in pixels of their level: whole numbers are pixel centres."""

Sampler = Callable[[Tensor, Shapes, Points, Tensor], Tensor]
"""(value (B, S, M, D), shapes, points, weights (B, Q, M * L * P)) -> (B, Q, M * D); maps are zero beyond their edge."""


def sample_grids(value: Tensor, shapes: Shapes, points: Points, weights: Tensor) -> Tensor:
    """Sample level by level with `grid_sample`: the fastest form on GPUs.

    Queries are the last axis of all that is large: products and sums over the few points run along it.
    """
    _, _, heads, dim = value.shape
    levels = value.split([height * width for height, width in shapes], dim=1)
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


def reference_points(shapes: Shapes, heads: int, points: int, device: torch.device) -> Points:
    """Return where the centre of each token's pixel lies in each level, in that level's pixels, (S, M * L * P) each."""
    x, y = [], []
    for height, width in shapes:
        rows = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        y.append(rows[:, None].expand(-1, width).flatten())
        x.append(columns.expand(height, -1).flatten())
    widths, heights = [width for _, width in shapes], [height for height, _ in shapes]
    return _in_pixels(torch.cat(x), widths, heads, points), _in_pixels(torch.cat(y), heights, heads, points)


def _in_pixels(place: Tensor, lengths: Sequence[int], heads: int, points: int) -> Tensor:
    """Return places (S,) on an axis from 0 to 1 in pixels of each level, (S, M * L * P)."""
    pixels = torch.stack([place * length - 0.5 for length in lengths], dim=1)  # (S, L)
    return pixels[:, None, :, None].expand(-1, heads, -1, points).flatten(1)


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
