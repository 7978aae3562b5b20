"""One network in both implementations, and what both are trained on: the same texts and sample points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oneformer_data.training.tokenizer import tokenize
from oneformer_model import OneFormer, Texts
from oneformer_model.weights import sources
from oneformer_spec.tasks import Task
from oneformer_train.loss.criterion import Criterion, LossWeights, PointOptions

QUERIES, CONTEXT, POINTS = 20, 4, 200
LABELS = (torch.tensor([0, 2, 4]), torch.tensor([1, 1]))
"""The classes of two images."""


def points(masks: Sequence[int], count: int) -> Tensor:
    """The same points for every mask and head, so that both sides need not draw in the same order."""
    drawn = torch.empty(1, count, 2).uniform_(generator=torch.Generator().manual_seed(count))
    return drawn.expand(sum(masks), -1, -1).clone()


def texts(task: Task) -> Texts:
    """Hugging Face's texts of the two images: what is there, filled up with "an <task> photo"."""
    lines = [f"an {task} photo", "a photo with a tree", "a photo with a dog", "a photo with a cat"]
    index = torch.zeros(2, QUERIES - CONTEXT, dtype=torch.int64)
    index[0, :3], index[1, :2] = torch.tensor([1, 2, 3]), torch.tensor([2, 2])
    return Texts(torch.tensor([tokenize(line) for line in lines]), index)


def counterpart(reference: Any, folder: Path) -> OneFormer:
    """Our network with Hugging Face's weights, for training; its text encoder is not causal, as theirs is not."""
    reference.save_pretrained(folder)
    found = sources.read(folder)
    section = {**found.manifest.model, "text_encoder": {**found.manifest.model["text_encoder"], "causal": False}}
    return replace(found, manifest=replace(found.manifest, model=section)).model(training=True).train()


def criterion() -> Criterion:
    """Our criterion with Hugging Face's weights of the terms."""
    return Criterion(
        num_classes=5,
        weights=LossWeights(classes=2.0, mask=5.0, dice=5.0, contrastive=0.5),
        points=PointOptions(num_points=POINTS, oversample_ratio=3.0, importance_ratio=0.75),
        no_object_weight=0.1,
        deep_supervision=True,
    )
