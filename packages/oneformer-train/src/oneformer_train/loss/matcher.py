"""Bipartite matching of queries and target masks (MaskFormer, section 3.2; Mask2Former, section 3.3 for the points)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True)
class CostWeights:
    """How much each part of the cost counts."""

    classes: float
    mask: float
    dice: float


@dataclass(frozen=True)
class Target:
    """One image's truth for the task that was drawn: labels (N,) int64, masks (N, H, W) bool."""

    labels: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Matches:
    """The matched pairs of one head over the batch, M in all."""

    image: Tensor  # (M,) index in the batch
    query: Tensor  # (M,)
    target: Tensor  # (M,) index into the batch's concatenated targets
    counts: list[int]  # pairs of each image


@torch.no_grad()
def match(
    class_logits: Tensor, point_logits: Tensor, labels: Tensor, point_targets: Tensor, weights: CostWeights
) -> tuple[Tensor, Tensor]:
    """Return the cheapest one-to-one assignment of one image: query indices (N,), target indices (N,).

    Args:
        class_logits: (Q, C + 1).
        point_logits: Mask logits of all queries at P points, (Q, P).
        labels: Class of each target, (N,).
        point_targets: Target masks at the same points, (N, P), 0..1.
        weights: Of the three costs: negative class probability, mean binary cross-entropy, 1 - dice.
    """
    class_cost = -class_logits.float().softmax(-1)[:, labels]  # (Q, N)
    mask_cost = pairwise_cross_entropy(point_logits.float(), point_targets.float())
    dice_cost = pairwise_dice(point_logits.float(), point_targets.float())
    cost = weights.classes * class_cost + weights.mask * mask_cost + weights.dice * dice_cost
    # A network that diverged gives costs that are not finite; the losses report that better than the solver does.
    queries, targets = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
    device = labels.device
    return torch.as_tensor(queries, device=device), torch.as_tensor(targets, device=device)


def pairwise_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of every pair: logits (Q, P), targets (N, P) -> (Q, N)."""
    # -log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x) = softplus(-x) + x, so that
    # t softplus(-x) + (1 - t) softplus(x) = softplus(x) - t x: one product instead of two.
    points = logits.shape[1]
    return (F.softplus(logits).sum(1, keepdim=True) - logits @ targets.T) / points


def pairwise_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - dice of every pair, smoothed by 1: logits (Q, P), targets (N, P) -> (Q, N)."""
    inside = logits.sigmoid()
    overlap = 2.0 * (inside @ targets.T)
    total = inside.sum(1)[:, None] + targets.sum(1)[None, :]
    return 1.0 - (overlap + 1.0) / (total + 1.0)


def matched_logits(embeddings: Sequence[Tensor], features: Tensor, matches: Sequence[Matches]) -> list[Tensor]:
    """Return per head the mask logits of its matched queries, (M, h, w), in the order of its matches.

    All heads of an image share one product, so the features' gradient, the largest of all, is made once and not once
    a head.

    Args:
        embeddings: Of the masks, (B, Q, D) per head.
        features: (B, D, h, w).
        matches: Per head, image by image.
    """
    by_image = []
    for image, planes in enumerate(features.unbind()):
        chosen = [
            rows[image, match.query[match.image == image]] for rows, match in zip(embeddings, matches, strict=True)
        ]
        product = torch.einsum("md,dhw->mhw", torch.cat(chosen), planes)
        by_image.append(product.split([len(rows) for rows in chosen]))
    return [torch.cat(parts) for parts in zip(*by_image, strict=True)]
