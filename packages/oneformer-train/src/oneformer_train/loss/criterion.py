"""The training loss: classification, mask, dice and query-text contrastive terms over all prediction heads.

OneFormer, section 3.3 and equations 1 to 3; the mask terms on sampled points follow Mask2Former, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model import TrainingPrediction
from oneformer_train.loss.matcher import CostWeights, Matches, Target, match, matched_logits
from oneformer_train.loss.plugin_losses import PluginLoss, single_precision
from oneformer_train.loss.points import DrawPoints, sample, sample_features, uncertain_points, uniform_points
from oneformer_train.processes import group


@dataclass(frozen=True)
class LossWeights:
    """Factors of the four terms."""

    classes: float
    mask: float
    dice: float
    contrastive: float


@dataclass(frozen=True)
class PointOptions:
    """How many points a mask loss sees, and how they are chosen; see `uncertain_points`."""

    num_points: int
    oversample_ratio: float
    importance_ratio: float


class Criterion(nn.Module):
    """Weighted sum of all terms over all heads; everything is computed in single precision.

    With several processes the mean of a term over them is the term of one process with all their images: sums are
    divided by counts of all images, and images are compared with the texts of all.
    """

    empty_weight: Tensor

    def __init__(
        self,
        *,
        num_classes: int,
        weights: LossWeights,
        points: PointOptions,
        no_object_weight: float,
        deep_supervision: bool,
        further: Sequence[PluginLoss] = (),
    ) -> None:
        """Build the criterion; `no_object_weight` scales the class loss of unmatched queries.

        `further` losses see the last head alone; their terms join the sum.
        """
        super().__init__()
        self.weights = weights
        self.points = points
        self.deep_supervision = deep_supervision
        self.further = tuple(further)
        empty_weight = torch.ones(num_classes + 1)
        empty_weight[-1] = no_object_weight
        self.register_buffer("empty_weight", empty_weight, persistent=False)

    def forward(
        self,
        prediction: TrainingPrediction,
        targets: Sequence[Target],
        logit_scale: Tensor,
        draw: DrawPoints | None = None,
        *,
        across_ranks: bool = True,
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name and their sum under "loss", each a scalar.

        Args:
            prediction: Of a forward pass with texts.
            targets: One per image.
            logit_scale: Logarithm of the inverse contrastive temperature.
            draw: Source of sample points; None means uniform ones.
            across_ranks: Take the batches of all ranks for one; where they may have different numbers of batches,
                ranks would wait for each other for ever.
        """
        draw = draw or uniform_points(prediction.mask_features.device)
        with torch.autocast(prediction.mask_features.device.type, enabled=False):
            terms, matches = self._head_terms(prediction, targets, draw, across_ranks)
            contrast = contrastive_loss(
                prediction.queries.float(), prediction.text_queries.float(), logit_scale.float(), across_ranks
            )
            terms["contrastive"] = self.weights.contrastive * contrast
            for loss in self.further:
                terms |= loss.terms(single_precision(prediction), targets, matches, terms)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _head_terms(
        self, prediction: TrainingPrediction, targets: Sequence[Target], draw: DrawPoints, across_ranks: bool
    ) -> tuple[dict[str, Tensor], Matches]:
        """Return the weighted terms over all heads, and the matched pairs of the last one."""
        masks = torch.cat([target.masks for target in targets]).float()  # (N, H, W)
        labels = torch.cat([target.labels for target in targets])
        features = prediction.mask_features.float()  # (B, D, h, w)
        num_masks, class_weight = self._divisors(targets, prediction.class_logits[-1], across_ranks)
        heads = list(zip(prediction.class_logits, prediction.mask_embeddings, strict=True))
        if not self.deep_supervision:
            heads = heads[-1:]
        classes = [class_logits.float() for class_logits, _ in heads]
        embeddings = [mask_embeddings.float() for _, mask_embeddings in heads]
        matches = [self._match(*head, features, targets, masks, draw) for head in zip(classes, embeddings, strict=True)]
        sums = {name: features.new_zeros(()) for name in ("class", "mask", "dice")}
        for class_logits, logits, matched in zip(
            classes, matched_logits(embeddings, features, matches), matches, strict=True
        ):
            sums["class"] = sums["class"] + self._class_loss(class_logits, labels, matched, class_weight)
            mask_loss, dice = self._mask_losses(logits, masks[matched.target], num_masks, partial(draw, matched.counts))
            sums["mask"] = sums["mask"] + mask_loss
            sums["dice"] = sums["dice"] + dice
        factors = {"class": self.weights.classes, "mask": self.weights.mask, "dice": self.weights.dice}
        return {name: factors[name] * value for name, value in sums.items()}, matches[-1]

    @torch.no_grad()
    def _match(
        self,
        class_logits: Tensor,
        mask_embeddings: Tensor,
        features: Tensor,
        targets: Sequence[Target],
        masks: Tensor,
        draw: DrawPoints,
    ) -> Matches:
        """Match every image on its own points; sampling and the mask product commute, so features are sampled."""
        weights = CostWeights(self.weights.classes, self.weights.mask, self.weights.dice)
        points = draw([1] * len(targets), self.points.num_points)  # (B, P, 2)
        sampled = sample_features(features, points)  # (B, P, D)
        point_logits = mask_embeddings @ sampled.transpose(1, 2)  # (B, Q, P)
        images, queries, chosen, offset = [], [], [], 0
        counts = [0] * len(targets)
        for image, target in enumerate(targets):
            count = len(target.labels)
            if count:
                truth = sample(masks[None, offset : offset + count], points[image : image + 1])[0]  # (N, P)
                query, index = match(class_logits[image], point_logits[image], target.labels, truth, weights)
                images.append(torch.full_like(query, image))
                queries.append(query)
                chosen.append(index + offset)
                counts[image] = len(query)
            offset += count
        if not images:
            none = torch.zeros(0, dtype=torch.int64, device=features.device)
            return Matches(none, none, none, counts)
        return Matches(torch.cat(images), torch.cat(queries), torch.cat(chosen), counts)

    def _divisors(self, targets: Sequence[Target], class_logits: Tensor, across_ranks: bool) -> Tensor:
        """Return the number of target masks, at least 1, and the sum of the class loss's weights, both per rank."""
        images, num_queries = class_logits.shape[:2]
        matched = sum(min(len(target.labels), num_queries) for target in targets)
        weight = matched + float(self.empty_weight[-1]) * (images * num_queries - matched)
        masks = sum(len(target.labels) for target in targets)
        found = torch.tensor([float(masks), weight], device=class_logits.device)
        found = group.mean(found) if across_ranks else found
        return found.clamp(min=torch.tensor([1.0, 0.0], device=found.device))

    def _class_loss(self, class_logits: Tensor, labels: Tensor, matches: Matches, weight: Tensor) -> Tensor:
        """Cross-entropy over all queries; the unmatched ones are "no object", which weighs less."""
        no_object = class_logits.shape[-1] - 1
        wanted = torch.full(class_logits.shape[:2], no_object, device=class_logits.device)  # (B, Q)
        wanted[matches.image, matches.query] = labels[matches.target]
        summed = F.cross_entropy(class_logits.flatten(0, 1), wanted.flatten(), self.empty_weight, reduction="sum")
        return summed / weight

    def _mask_losses(
        self, logits: Tensor, masks: Tensor, num_masks: Tensor, draw: Callable[[int], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy and dice of matched queries: logits (M, h, w) against masks (M, H, W)."""
        if not len(logits):
            return logits.sum(), logits.sum()
        with torch.no_grad():
            points = uncertain_points(
                logits,
                self.points.num_points,
                oversample_ratio=self.points.oversample_ratio,
                importance_ratio=self.points.importance_ratio,
                draw=draw,
            )
            truth = sample(masks.unsqueeze(1), points).squeeze(1)  # (M, P)
        point_logits = sample(logits.unsqueeze(1), points).squeeze(1)  # (M, P)
        cross_entropy = F.binary_cross_entropy_with_logits(point_logits, truth, reduction="none").mean(1).sum()
        return cross_entropy / num_masks, dice_loss(point_logits, truth).sum() / num_masks


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - dice of each mask, smoothed by 1: logits and targets (M, P) -> (M,)."""
    inside = logits.sigmoid()
    overlap = 2.0 * (inside * targets).sum(-1)
    return 1.0 - (overlap + 1.0) / (inside.sum(-1) + targets.sum(-1) + 1.0)


def contrastive_loss(queries: Tensor, text_queries: Tensor, logit_scale: Tensor, across_ranks: bool = True) -> Tensor:
    """Return the query-text loss over the global batch, the sum of both directions (OneFormer, equation 1).

    `queries` and `text_queries` are (B, Q, D); an image's own texts are its positive, those of the other images its
    negatives, so a global batch of 1 gives 0.
    """
    images = F.normalize(queries.flatten(1), dim=-1)  # (B, Q D)
    texts = F.normalize(text_queries.flatten(1), dim=-1)
    if across_ranks:
        all_images, all_texts, offset = group.gather_rows(images), group.gather_rows(texts), group.rank() * len(images)
    else:
        all_images, all_texts, offset = images, texts, 0
    scale = logit_scale.exp().clamp(max=100.0)
    own = torch.arange(len(images), device=images.device) + offset
    by_image = F.cross_entropy(scale * images @ all_texts.T, own)
    by_text = F.cross_entropy(scale * texts @ all_images.T, own)
    return by_image + by_text
