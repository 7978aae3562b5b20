"""The training loss that a spec describes."""

from __future__ import annotations

from oneformer_spec.schema import Spec
from oneformer_train.loss.criterion import Criterion, LossWeights, PointOptions
from oneformer_train.loss.plugin_losses import PluginLoss


def criterion(spec: Spec) -> Criterion:
    """Return the criterion that `model.one_former.*` and `train.losses` describe.

    Raises:
        SpecError: A loss is not installed.
        PluginError: A loss cannot be made.
    """
    head = spec.model.one_former
    return Criterion(
        num_classes=spec.model.sem_seg_head.num_classes,
        weights=LossWeights(head.class_weight, head.mask_weight, head.dice_weight, head.contrastive_weight),
        points=PointOptions(head.train_num_points, head.oversample_ratio, head.importance_sample_ratio),
        no_object_weight=head.no_object_weight,
        deep_supervision=head.deep_supervision,
        further=[PluginLoss(entry) for entry in spec.train.losses],
    )
