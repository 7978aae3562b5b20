"""OneFormer (Jain et al., 2023): one set of weights, three tasks, chosen by a token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oneformer_model.network.layers import Mlp
from oneformer_model.network.pixel_features import PixelFeatures
from oneformer_model.network.query_decoder import QueryPredictions
from oneformer_model.network.text_branch import TextBranch, Texts
from oneformer_spec import tasks
from oneformer_spec.tasks import Task


class Prediction(NamedTuple):
    """Class logits (B, Q, C + 1), "no object" last, and mask logits (B, Q, ceil(H / 4), ceil(W / 4))."""

    class_logits: Tensor
    mask_logits: Tensor
    auxiliary: Any = None


class TrainingPrediction(NamedTuple):
    """What the losses need, one entry per head, the last one final.

    The mask logits of head l are `einsum("bqd,bdhw->bqhw", mask_embeddings[l], mask_features)`.
    """

    class_logits: tuple[Tensor, ...]  # (B, Q, C + 1) each
    mask_embeddings: tuple[Tensor, ...]  # (B, Q, D) each
    mask_features: Tensor  # (B, D, h, w)
    queries: Tensor  # (B, Q, D)
    text_queries: Tensor  # (B, Q, D)


class TaskEncoder(Mlp):
    """An MLP over raw token ids; always in float32, since 16-bit formats round the ids."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode a task's tokens (B, L), ids as floats, into (B, D) of the weights' type."""
        if torch.is_autocast_enabled(tokens.device.type):
            with torch.autocast(tokens.device.type, enabled=False):
                return self._encode(tokens)
        return self._encode(tokens)

    def _encode(self, tokens: Tensor) -> Tensor:
        """Compute in float32 also where the weights were cast to a 16-bit type."""
        weights = cast(nn.Linear, self.layers[0]).weight
        exact = torch.promote_types(weights.dtype, torch.float32)
        x = tokens.to(exact)
        for index, module in enumerate(self.layers):
            layer = cast(nn.Linear, module)
            x = F.linear(x if index == 0 else F.relu(x), layer.weight.to(exact), layer.bias.to(exact))
        return x.to(weights.dtype)


class OneFormer(nn.Module):
    """Backbone, pixel decoder, query decoder; the text branch exists in training only."""

    def __init__(
        self,
        backbone: nn.Module,
        pixel_decoder: nn.Module,
        query_decoder: nn.Module,
        task_encoder: nn.Module,
        text_branch: TextBranch | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.query_decoder = query_decoder
        self.task_encoder = task_encoder
        self.text_branch = text_branch
        self.recompute_backbone = False
        self._frozen: list[nn.Module] = []

    def forward(
        self, image: Tensor, task_tokens: Tensor, texts: Texts | None = None
    ) -> Prediction | TrainingPrediction:
        """Segment normalised images (B, 3, H, W) of any size under the task of `task_tokens` (B, L).

        With `texts` the result is a TrainingPrediction, otherwise a Prediction.
        """
        if self.recompute_backbone and self.training:
            features = checkpoint(self.backbone, image, use_reentrant=False)
        else:
            features = self.backbone(image)
        pixels: PixelFeatures = self.pixel_decoder(features)
        heads: QueryPredictions = self.query_decoder(
            pixels.levels, pixels.mask_features, self.task_encoder(task_tokens), every_head=texts is not None
        )
        if texts is None:
            masks = torch.einsum("bqd,bdhw->bqhw", heads.mask_embeddings[-1], pixels.mask_features)
            return Prediction(heads.class_logits[-1], masks)
        if self.text_branch is None:
            raise ValueError("this model was built without its text branch; build it with training=True")
        return TrainingPrediction(
            heads.class_logits, heads.mask_embeddings, pixels.mask_features, heads.queries, self.text_branch(texts)
        )

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Keep modules of this model as they are: no gradients, and always in eval mode."""
        for module in modules:
            self._frozen.append(module.requires_grad_(False).eval())

    def train(self, mode: bool = True) -> Self:
        """Switch to training, except for what is frozen."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def task_tokens(task: Task | str, batch_size: int = 1) -> Tensor:
    """Return the task's raw token ids, float32 (batch_size, 77)."""
    return torch.from_numpy(tasks.task_tokens(Task(task), batch_size))
