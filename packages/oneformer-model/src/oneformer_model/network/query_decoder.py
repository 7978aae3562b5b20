"""The task-conditioned query decoder: masked attention over three scales, a prediction head after every layer.

Letters: B batch, Q queries, C classes, D channels, h w pixels of the mask features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model.network.layers import (
    ClassTransformer,
    CrossAttentionLayer,
    FeedForwardLayer,
    Mlp,
    SelfAttentionLayer,
)
from oneformer_model.network.positions import sine_code


class QueryPredictions(NamedTuple):
    """Outputs of the heads, the last one final, and the queries that the contrastive loss compares with texts."""

    class_logits: tuple[Tensor, ...]  # (B, Q, C + 1) each
    mask_embeddings: tuple[Tensor, ...]  # (B, Q, mask_dim) each
    queries: Tensor  # (B, Q, D)


class QueryDecoderLayer(nn.Module):
    """Queries look at one level inside their mask, at each other, then through a feed-forward layer."""

    def __init__(self, dim: int, *, num_heads: int, hidden: int, pre_norm: bool) -> None:
        super().__init__()
        self.cross_attention = CrossAttentionLayer(dim, num_heads, pre_norm=pre_norm)
        self.self_attention = SelfAttentionLayer(dim, num_heads, pre_norm=pre_norm)
        self.feed_forward = FeedForwardLayer(dim, hidden, pre_norm=pre_norm)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Transform queries (B, Q, D) with a level's keys and values (B, hw, D) and mask (B, 1, Q, hw)."""
        x = self.cross_attention(x, position, keys, values, mask)
        return cast(Tensor, self.feed_forward(self.self_attention(x, position)))


class QueryDecoder(nn.Module):
    """`num_heads_out` prediction heads share their weights; between them lie `num_heads_out - 1` layers."""

    def __init__(
        self,
        *,
        dim: int,
        in_dim: int,
        mask_dim: int,
        num_classes: int,
        num_queries: int,
        num_heads: int,
        hidden: int,
        num_predictions: int,
        num_levels: int,
        class_transformer: ClassTransformer,
        pre_norm: bool = False,
        task_norm: bool = True,
        project_inputs: bool = False,
        query_init_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_levels, self.task_norm, self.dim = num_levels, task_norm, dim
        self.query_embedding = nn.Embedding(num_queries, dim)
        # Attention scores start with about this deviation. At 1 every query sees nearly the mean of the image, so all
        # start alike to within some percent, and need thousands of steps to part.
        self.query_embedding.weight.data.mul_(query_init_std)
        self.level_embedding = nn.Embedding(num_levels, dim)
        self.class_projection = nn.Conv2d(mask_dim, dim, 1)
        self.class_transformer = class_transformer
        self.input_projections = nn.ModuleList(
            nn.Conv2d(in_dim, dim, 1) if project_inputs or in_dim != dim else nn.Identity() for _ in range(num_levels)
        )
        self.layers = nn.ModuleList(
            QueryDecoderLayer(dim, num_heads=num_heads, hidden=hidden, pre_norm=pre_norm)
            for _ in range(num_predictions - 1)
        )
        self.norm = nn.LayerNorm(dim)
        self.class_head = nn.Linear(dim, num_classes + 1)
        self.mask_head = Mlp(dim, dim, mask_dim, 3)
        for conv in (self.class_projection, *self.input_projections):
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(
        self, levels: Sequence[Tensor], mask_features: Tensor, task: Tensor, *, every_head: bool
    ) -> QueryPredictions:
        """Predict classes and mask embeddings.

        Args:
            levels: Maps (B, in_dim, h, w), coarsest first.
            mask_features: (B, mask_dim, h, w).
            task: Task token (B, D).
            every_head: Return what each head predicts (training), not the last one alone.
        """
        if self.task_norm:
            task = self.norm(task)
        queries = self._start(mask_features, task)
        sources = [self._source(index, level) for index, level in enumerate(levels)]
        guides = [_shrink(mask_features.detach(), level) for level in levels]
        position = self.query_embedding.weight
        classes, masks = [], []
        x = queries
        for index, layer in enumerate(self.layers):
            level = index % self.num_levels
            head = self.norm(x)
            embedding = self.mask_head(head)
            if every_head:
                classes.append(self.class_head(head))
                masks.append(embedding)
            x = layer(x, position, *sources[level], _visible(embedding.detach(), guides[level]))
        head = self.norm(x)
        classes.append(self.class_head(head))
        masks.append(self.mask_head(head))
        return QueryPredictions(tuple(classes), tuple(masks), queries)

    def _start(self, mask_features: Tensor, task: Tensor) -> Tensor:
        """Return the queries before the first layer: the class transformer's, and the task token as the last one."""
        height, width = mask_features.shape[2:]
        code = sine_code(height, width, self.dim, mask_features.device)
        features = self.class_projection(mask_features).flatten(2).transpose(1, 2)  # (B, hw, D)
        # As published, the raw token does not enter the class transformer: its ids would drown everything else.
        start = task if self.task_norm else torch.zeros_like(task)
        started = self.class_transformer(code, features, self.query_embedding.weight[:-1], start)
        return torch.cat((started, task[:, None].to(started.dtype)), dim=1)

    def _source(self, index: int, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of a level, (B, hw, D) each."""
        height, width = level.shape[2:]
        values = self.input_projections[index](level).flatten(2).transpose(1, 2) + self.level_embedding.weight[index]
        return values + sine_code(height, width, self.dim, level.device), values


def _shrink(mask_features: Tensor, level: Tensor) -> Tensor:
    """Return mask features at the size of a level, (B, D, hw): resizing commutes with the product that makes masks."""
    shrunk = F.interpolate(mask_features, size=level.shape[2:], mode="bilinear", align_corners=False)
    return shrunk.flatten(2)


def _visible(mask_embedding: Tensor, guide: Tensor) -> Tensor:
    """Return where each query may look, bool (B, 1, Q, hw): inside its mask, or everywhere when that is empty."""
    inside = torch.einsum("bqd,bdp->bqp", mask_embedding, guide) >= 0  # a probability of at least one half
    empty = ~inside.any(dim=-1, keepdim=True)
    return (inside | empty)[:, None]
