"""Further losses, `train.losses`: functions of plugins, each computed once a batch on the last prediction head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneformer_model import TrainingPrediction
from oneformer_spec.errors import PluginError
from oneformer_spec.plugins.entries import LossEntry, make, naming_plugin, part_name, shared_options
from oneformer_spec.plugins.option import Entry
from oneformer_train.loss.matcher import Matches, Target, matched_logits

LossFunction = Callable[[TrainingPrediction, Sequence[Target], Matches], Mapping[str, Tensor]]
"""Returns scalars by name: of the whole batch's prediction, a target per image, and the last head's matched pairs."""

TOTAL = "loss"
"""The name of the sum of all terms."""


class PluginLoss:
    """A loss of a plugin with its weight; errors name the plugin."""

    def __init__(self, entry: Entry) -> None:
        """Make the loss that an entry of `train.losses` stands for.

        Raises:
            SpecError: It is not installed.
            PluginError: It cannot be made, or has parameters of its own.
        """
        settings = shared_options("loss", entry)
        assert isinstance(settings, LossEntry)
        self.entry = entry
        self.weight = settings.weight
        self._compute: LossFunction = make("loss", entry)
        self._names: tuple[str, ...] | None = None
        if isinstance(self._compute, nn.Module) and any(True for _ in self._compute.parameters()):
            raise PluginError(f"{part_name('loss', entry.type)} has parameters of its own, which nothing would train")

    def terms(
        self, prediction: TrainingPrediction, targets: Sequence[Target], matches: Matches, taken: Collection[str]
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name.

        Args:
            prediction: In single precision.
            targets: One per image.
            matches: The matched pairs of the last head.
            taken: Names of the other terms.

        Raises:
            PluginError: The loss fails, or returns something else than scalar tensors under the same new names.
        """
        with naming_plugin("loss", self.entry.type):
            found = self._compute(prediction, targets, matches)
            self._check(found, {*taken, TOTAL})
        return {name: self.weight * value.float() for name, value in found.items()}

    def _check(self, found: Any, taken: Collection[str]) -> None:
        if not isinstance(found, Mapping):
            raise PluginError(f"it returned {type(found).__name__}, expected scalar tensors by name")
        names = tuple(found)
        for name in names:
            if name in taken:
                raise PluginError(f"its term {name!r} has the name of another loss")
            if not (isinstance(found[name], Tensor) and found[name].ndim == 0):
                raise PluginError(f"its term {name!r} is {_kind(found[name])}, expected a scalar tensor")
        if self._names is not None and set(self._names) != set(names):
            raise PluginError(f"it returned {', '.join(names) or 'no term'}, before {', '.join(self._names) or 'none'}")
        self._names = names


def single_precision(prediction: TrainingPrediction) -> TrainingPrediction:
    """Return a prediction as float32; what is float32 already is not copied."""
    return TrainingPrediction(
        class_logits=tuple(part.float() for part in prediction.class_logits),
        mask_embeddings=tuple(part.float() for part in prediction.mask_embeddings),
        mask_features=prediction.mask_features.float(),
        queries=prediction.queries.float(),
        text_queries=prediction.text_queries.float(),
    )


def matched_masks(prediction: TrainingPrediction, targets: Sequence[Target], matches: Matches) -> tuple[Tensor, Tensor]:
    """Return the last head's mask logits of matched queries, and their target masks at the logits' size.

    Both are (M, h, w), M the number of matched pairs of the batch, possibly 0; a target pixel is the part of its area,
    0 to 1, that the mask covers.
    """
    (logits,) = matched_logits([prediction.mask_embeddings[-1]], prediction.mask_features, [matches])
    truth = torch.cat([target.masks for target in targets])[matches.target].float()  # (M, H, W)
    return logits, F.adaptive_avg_pool2d(truth.unsqueeze(1), (logits.shape[-2], logits.shape[-1])).squeeze(1)


def _kind(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
