"""The text branch of training: a causal CLIP-style encoder, its projection, and learned context tokens.

Letters: U unique texts, L tokens, T texts of an image, B batch, D channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from oneformer_model.network.layers import Mlp, MultiHeadAttention

_HEAD_WIDTH = 64


class Texts(NamedTuple):
    """The texts of a batch: `tokens` (U, L) of the different ones, `index` (B, T) into them, both int64."""

    tokens: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name, which nobody needs here


class TextBlock(nn.Module):
    """A pre-norm transformer block with CLIP's quick GELU."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Transform tokens (U, L, width)."""
        inner = self.norm1(x)
        x = x + self.attention(inner, inner, inner, causal=causal)
        hidden = self.linear1(self.norm2(x))
        return x + cast(Tensor, self.linear2(hidden * torch.sigmoid(1.702 * hidden)))


class TextEncoder(nn.Module):
    """Encodes a text into the feature at its end token, which has the largest id."""

    def __init__(
        self, *, width: int, num_layers: int, vocab_size: int, context_length: int, causal: bool = True
    ) -> None:
        super().__init__()
        self.causal = causal
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = nn.ModuleList(TextBlock(width, max(1, width // _HEAD_WIDTH)) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self._initialise(width, num_layers)

    def _initialise(self, width: int, num_layers: int) -> None:
        """Draw weights as CLIP does."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)
        residual = width**-0.5 * (2 * num_layers) ** -0.5
        for module in self.blocks:
            block = cast(TextBlock, module)
            for linear in (block.attention.query, block.attention.key, block.attention.value):
                nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.normal_(block.attention.output.weight, std=residual)
            nn.init.normal_(block.linear1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.linear2.weight, std=residual)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode tokens (U, L) into (U, width); with a causal encoder what follows the end token changes nothing."""
        end = tokens.argmax(dim=-1)
        x = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.causal)
        return cast(Tensor, self.norm(x[torch.arange(x.shape[0], device=x.device), end]))


class TextBranch(nn.Module):
    """Texts into the queries' space, learned context behind them, and the temperature of their comparison."""

    def __init__(
        self, encoder: TextEncoder, *, width: int, dim: int, num_layers: int, num_context: int, temperature: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = Mlp(width, dim, dim, num_layers)
        self.context = nn.Embedding(num_context, dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def forward(self, texts: Texts) -> Tensor:
        """Return text queries (B, T + num_context, D); every different text is encoded once."""
        features = self.projector(self.encoder(texts.tokens))  # (U, D)
        chosen = nn.functional.embedding(texts.index, features)  # (B, T, D)
        context = self.context.weight.to(chosen.dtype).expand(chosen.shape[0], -1, -1)
        return torch.cat((chosen, context), dim=1)
