"""Bipartite matching of queries and target masks (MaskFormer, section 3.2; Mask2Former, section 3.3 for the points)."""

from __future__ import annotations

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
    # A network that has gone astray gives costs that are no numbers; the losses tell of that better than the solver.
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
