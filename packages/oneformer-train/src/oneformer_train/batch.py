"""From examples to one batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from oneformer_data.pipeline import Example
from oneformer_model import Texts


class Batch(NamedTuple):
    """B training examples of one size; the per-image lists have one entry each."""

    names: list[str]
    image: Tensor  # (B, 3, H, W) float32, normalised
    task_tokens: Tensor  # (B, L) float32
    labels: list[Tensor]  # (N,) int64
    masks: list[Tensor]  # (N, H, W) bool
    texts: Texts


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples; each different text stands once, and all are cut to the longest."""
    return Batch(
        names=[example.name for example in examples],
        image=torch.from_numpy(np.stack([example.image for example in examples])),
        task_tokens=torch.from_numpy(np.stack([example.task_tokens for example in examples])),
        labels=[torch.from_numpy(example.labels) for example in examples],
        masks=[torch.from_numpy(example.masks) for example in examples],
        texts=_unique_texts(examples),
    )


def _unique_texts(examples: Sequence[Example]) -> Texts:
    tokens = np.concatenate([example.text_tokens for example in examples])  # all texts, (sum of U, L)
    offsets = np.cumsum([0, *(len(example.text_tokens) for example in examples[:-1])])
    unique, position = np.unique(tokens, axis=0, return_inverse=True)
    position = position.reshape(-1)
    index = np.stack([position[example.text_index + offset] for example, offset in zip(examples, offsets, strict=True)])
    longest = int((unique != 0).sum(axis=1).max())
    return Texts(torch.from_numpy(np.ascontiguousarray(unique[:, :longest])), torch.from_numpy(index))
