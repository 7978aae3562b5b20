"""Attention and feed-forward layers with their residual and norm, and the class transformer built from them.

Letters: B batch, Q queries, K keys, D channels, M heads.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention; a batch of one in `key` or `value` serves all samples."""

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight, gain=1 / math.sqrt(2))  # as one (3D, D) matrix
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from (B, Q, D) to (B, K, D); `mask` (B, 1, Q, K) is True where a query may look."""
        parts = (self._heads(self.query(query), query), self._heads(self.key(key), query))
        values = self._heads(self.value(value), query)
        rate = self.dropout if self.training else 0.0
        if rate > 0 and query.device.type == "cpu" and mask is None and not causal:
            # No fused kernel of the CPU drops; torch's general path takes twice the passes over (Q, K).
            scores = (parts[0] * (values.shape[-1] ** -0.5)) @ parts[1].transpose(-2, -1)
            x = dropout(scores.softmax(dim=-1), rate) @ values
        else:
            x = F.scaled_dot_product_attention(*parts, values, attn_mask=mask, is_causal=causal, dropout_p=rate)
        return cast(Tensor, self.output(x.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor, query: Tensor) -> Tensor:
        """Split channels: (B or 1, K, D) -> (B, M, K, D / M)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2).expand(query.shape[0], -1, -1, -1)


class _ResidualLayer(nn.Module):
    """A residual branch with one norm, before the branch (`pre_norm`) or after the sum."""

    def __init__(self, dim: int, *, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.pre_norm = pre_norm

    def _enter(self, x: Tensor) -> Tensor:
        return self.norm(x) if self.pre_norm else x

    def _leave(self, x: Tensor, branch: Tensor) -> Tensor:
        x = x + self.dropout(branch)
        return x if self.pre_norm else self.norm(x)


class SelfAttentionLayer(_ResidualLayer):
    """Tokens look at each other; `position` is added to queries and keys, not to values."""

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0, pre_norm: bool = False) -> None:
        super().__init__(dim, dropout=dropout, pre_norm=pre_norm)
        self.attention = MultiHeadAttention(dim, num_heads, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Transform tokens (B, Q, D)."""
        inner = self._enter(x)
        placed = inner + position
        return self._leave(x, self.attention(placed, placed, inner))


class CrossAttentionLayer(_ResidualLayer):
    """Tokens look at keys and values of another sequence; `position` is added to the queries."""

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0, pre_norm: bool = False) -> None:
        super().__init__(dim, dropout=dropout, pre_norm=pre_norm)
        self.attention = MultiHeadAttention(dim, num_heads, dropout=dropout)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform tokens (B, Q, D) with keys and values (B or 1, K, D); `mask` as in MultiHeadAttention."""
        return self._leave(x, self.attention(self._enter(x) + position, keys, values, mask=mask))


class FeedForwardLayer(_ResidualLayer):
    """Two linear layers with ReLU between."""

    def __init__(self, dim: int, hidden: int, *, dropout: float = 0.0, pre_norm: bool = False) -> None:
        super().__init__(dim, dropout=dropout, pre_norm=pre_norm)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, Q, D)."""
        hidden = F.relu(self.linear1(self._enter(x)), inplace=not torch.is_grad_enabled())
        return self._leave(x, self.linear2(self.dropout(hidden)))


class Mlp(nn.Module):
    """Linear layers with ReLU between: `in_dim`, then `hidden` each, then `out_dim`."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [in_dim, *[hidden] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis from `in_dim` to `out_dim`."""
        for index, layer in enumerate(self.layers):
            x = layer(x if index == 0 else F.relu(x))
        return x


class ClassTransformerLayer(nn.Module):
    """Self-attention, attention to another sequence where the layer `looks_across`, and a feed-forward layer (DETR)."""

    def __init__(
        self, dim: int, num_heads: int, hidden: int, *, dropout: float, pre_norm: bool, looks_across: bool
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttentionLayer(dim, num_heads, dropout=dropout, pre_norm=pre_norm)
        self.cross_attention: CrossAttentionLayer | None = None
        if looks_across:
            self.cross_attention = CrossAttentionLayer(dim, num_heads, dropout=dropout, pre_norm=pre_norm)
        self.feed_forward = FeedForwardLayer(dim, hidden, dropout=dropout, pre_norm=pre_norm)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor | None = None, values: Tensor | None = None) -> Tensor:
        """Transform tokens (B, Q, D); `keys` and `values` are what a layer that looks across sees."""
        x = self.self_attention(x, position)
        if self.cross_attention is not None:
            x = self.cross_attention(x, position, keys, values)
        return cast(Tensor, self.feed_forward(x))


class ClassTransformer(nn.Module):
    """Turns the task token into one start value per query, with the image in view (OneFormer, section 3.2).

    The sequence it looks at is the position code; the projected image features are what its keys add.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        hidden: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float,
        pre_norm: bool,
    ) -> None:
        super().__init__()

        def layer(looks_across: bool) -> ClassTransformerLayer:
            return ClassTransformerLayer(
                dim, num_heads, hidden, dropout=dropout, pre_norm=pre_norm, looks_across=looks_across
            )

        self.encoder = nn.ModuleList(layer(looks_across=False) for _ in range(encoder_layers))
        self.encoder_norm = nn.LayerNorm(dim) if encoder_layers and pre_norm else nn.Identity()
        self.decoder = nn.ModuleList(layer(looks_across=True) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, code: Tensor, features: Tensor, query_position: Tensor, task: Tensor) -> Tensor:
        """Return start values (B, Q, D).

        Args:
            code: Position code of the map, (HW, D).
            features: Projected image features, (B, HW, D).
            query_position: Learned position of each query, (Q, D).
            task: Task token, (B, D).
        """
        memory = code[None]  # (1, HW, D)
        for layer in self.encoder:
            memory = layer(memory, features)
        memory = self.encoder_norm(memory)
        keys = memory + features
        x = task[:, None].expand(-1, query_position.shape[0], -1)
        for layer in self.decoder:
            x = layer(x, query_position, keys, memory)
        return cast(Tensor, self.norm(x))


_LEVELS = 1 << 15  # random bits per element: torch draws whole numbers of 63 bits, which make four of them


def dropout(x: Tensor, rate: float) -> Tensor:
    """Drop elements with a probability of `rate`, in steps of 1 / 32768, and scale the others so that the mean stays.

    On a CPU four elements share one random number: torch's own takes a draw for each, a tenth of a training step.
    """
    dropped = round(rate * _LEVELS)
    if x.device.type != "cpu" or not 0 < dropped < _LEVELS or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_()
    levels = numbers.view(torch.int16)[: x.numel()].bitwise_and_(_LEVELS - 1).view(x.shape)
    return x.masked_fill(levels < dropped, 0.0).mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Dropout):
    """`dropout` in training, nothing in inference."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of `x`."""
        return dropout(x, self.p) if self.training and self.p > 0 else x
