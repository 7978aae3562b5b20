"""Neighbourhood attention (Hassani et al., 2023), dilated (Hassani and Shi, 2022), on torch's own attention.

A query attends to the kernel x kernel tokens around it. At a border the window moves inside instead of being cut, so
every query has equally many keys. With a dilation of d, tokens whose coordinates agree modulo d form a grid of their
own, a residue, and the rule holds inside each of them.

Tokens are grouped so that one dense attention with one bias serves many groups at once. Along an axis, the queries
close to an end share one window; between them tiles of queries share the union of their windows, of which each query
sees its own part. Where a residue is short, it is one group as a whole.

Letters: B batch, H W tokens of a map, M heads, C channels of a head, K kernel, G groups of a zone, T queries and S keys
of a group along one axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model.network.size_cache import cached_by_size

_TILE = 8  # most queries of a tile along an axis: smaller ones gather keys more often, larger ones mask more of them
_WHOLE = 10  # most queries between the two ends of a residue that stays whole; beyond, tiles are faster


class Zone(NamedTuple):
    """Groups along one axis that look alike; coordinates are int64."""

    queries: Tensor  # (G, T)
    keys: Tensor  # (G, S)
    offsets: Tensor  # (T, S), key minus query in steps of the dilation, plus K - 1: 0 ... 2K - 2 for what is seen
    seen: Tensor  # (T, S), whether the key is in the query's window


class Axis(NamedTuple):
    """The zones of an axis, and where each coordinate stands when their queries are written one after the other."""

    zones: tuple[Zone, ...]
    order: Tensor  # (length,)


@cached_by_size
def plan_axis(length: int, kernel: int, dilation: int, device: torch.device) -> Axis:
    """Group the coordinates of an axis of at least kernel * dilation tokens."""
    middle = -(-length // dilation) - 2 * (kernel // 2)  # queries between the two ends of the longest residue
    cut = _whole_residues if middle <= _WHOLE else _tiles
    zones = tuple(cut(length, kernel, dilation, device))
    queries = torch.cat([zone.queries.flatten() for zone in zones])
    order = (queries == torch.arange(length, device=device)[:, None]).int().argmax(dim=1)  # tiles may overlap
    return Axis(zones, order)


def _whole_residues(length: int, kernel: int, dilation: int, device: torch.device) -> Iterator[Zone]:
    """Yield one zone for residues with a token more and one for those with a token less."""
    longer = length % dilation
    for first, last, size in ((0, longer, length // dilation + 1), (longer, dilation, length // dilation)):
        if first == last:
            continue
        axis = torch.arange(size, device=device)
        starts = (axis - kernel // 2).clamp(0, size - kernel)
        residues = torch.arange(first, last, device=device)
        coordinates = residues[:, None] + dilation * axis
        yield _zone(coordinates, coordinates, axis, axis, starts, kernel)


def _tiles(length: int, kernel: int, dilation: int, device: torch.device) -> Iterator[Zone]:
    """Yield the zone at the beginning, the tiles in the middle, and the zone at the end of all residues."""
    half = kernel // 2
    residues = torch.arange(dilation, device=device)[:, None]
    sizes = (length - residues + dilation - 1) // dilation  # tokens of each residue
    window, border = torch.arange(kernel, device=device), torch.arange(half, device=device)
    no_move = torch.zeros_like(border)
    if half:
        yield _zone(residues + dilation * border, residues + dilation * window, border, window, no_move, kernel)
    middle = -(-length // dilation) - 2 * half  # queries between the ends of the longest residue
    width = -(-middle // -(-middle // _TILE))
    counted = torch.arange(-(-middle // width), device=device)
    begins = torch.minimum(counted * width, sizes - 2 * half - width)  # the last tile lies over the one before it
    places = torch.arange(width, device=device)
    union = torch.arange(width + kernel - 1, device=device)
    yield _zone(
        (residues + dilation * (begins + half)).reshape(-1, 1) + dilation * places,
        (residues + dilation * begins).reshape(-1, 1) + dilation * union,
        places + half,
        union,
        places,
        kernel,
    )
    if half:
        ends = residues + dilation * sizes
        yield _zone(
            ends + dilation * (border - half),
            ends + dilation * (window - kernel),
            border + kernel - half,
            window,
            no_move,
            kernel,
        )


def _zone(queries: Tensor, keys: Tensor, query_steps: Tensor, key_steps: Tensor, starts: Tensor, kernel: int) -> Zone:
    """Build a zone whose t-th query sees the keys from `starts[t]` on; steps (T,) and (S,) count from one origin."""
    offsets = (key_steps - query_steps[:, None] + kernel - 1).clamp(0, 2 * kernel - 2)
    first = key_steps - key_steps[0] - starts[:, None]
    return Zone(queries, keys, offsets, (first >= 0) & (first < kernel))


class NeighborhoodAttention(nn.Module):
    """Self-attention of each token to its neighbourhood, with a learned bias per relative position.

    NATTEN's kernels are not used: as of 0.21 they take no bias per relative position.
    """

    def __init__(self, dim: int, *, num_heads: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.num_heads, self.kernel, self.dilation = num_heads, kernel, dilation
        self.relative_position_bias = nn.Parameter(torch.zeros(num_heads, 2 * kernel - 1, 2 * kernel - 1))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within maps (B, H, W, M * C); what is smaller than a window is filled with zeros first."""
        _, height, width, _ = x.shape
        least = self.kernel * self.dilation
        bottom, right = max(least - height, 0), max(least - width, 0)
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        rows = plan_axis(height + bottom, self.kernel, self.dilation, x.device)
        columns = plan_axis(width + right, self.kernel, self.dilation, x.device)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(dim=3)  # each (B, H, W, M, C)
        strips = []
        for row in rows.zones:
            blocks = [self._attend(query, key, value, row, column) for column in columns.zones]
            strips.append(torch.cat(blocks, dim=2).index_select(2, columns.order))
        x = torch.cat(strips, dim=1).index_select(1, rows.order)
        return self.projection(x[:, :height, :width])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, row: Zone, column: Zone) -> Tensor:
        """Return what the queries of two crossing zones take from their keys, (B, G * T, G' * T', M * C)."""
        (groups, height), (other_groups, width) = row.queries.shape, column.queries.shape
        x = F.scaled_dot_product_attention(
            _gather(query, row.queries, column.queries),
            _gather(key, row.keys, column.keys),
            _gather(value, row.keys, column.keys),
            attn_mask=self._bias(row, column).to(query.dtype),
        )
        x = x.transpose(1, 2).reshape(-1, groups, other_groups, height, width, query.shape[3] * query.shape[4])
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _bias(self, row: Zone, column: Zone) -> Tensor:
        """Return the bias per relative position, minus infinity for keys that are not seen, (1, M, T * T', S * S')."""
        bias = self.relative_position_bias[:, row.offsets[:, None, :, None], column.offsets[None, :, None, :]]
        seen = row.seen[:, None, :, None] & column.seen[None, :, None, :]
        return bias.masked_fill(~seen, float("-inf")).flatten(1, 2).flatten(2, 3)[None]


def _gather(x: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Take the tokens of crossing groups from (B, H, W, M, C): (G, T) and (G', T') give (B * G * G', M, T * T', C)."""
    index = ys[:, None, :, None] * x.shape[2] + xs[None, :, None, :]  # (G, G', T, T')
    tokens = x.flatten(1, 2).index_select(1, index.flatten())
    return tokens.reshape(-1, ys.shape[1] * xs.shape[1], *x.shape[3:]).transpose(1, 2)
