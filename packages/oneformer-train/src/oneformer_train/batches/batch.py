"""From examples to one batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oneformer_data.training.pipeline import Example
from oneformer_model import Texts


class Batch(NamedTuple):
    """B training examples of one size; the per-image lists have one entry each."""

    names: list[str]
    image: Tensor  # (B, 3, H, W) float32, normalised
    task_tokens: Tensor  # (B, L) float32
    labels: list[Tensor]  # (N,) int64
    masks: list[Tensor]  # (N, H, W) bool
    texts: Texts


def collate(examples: Sequence[Example], *, cut_texts: bool = True) -> Batch:
    """Stack examples, each different text once; smaller pictures are padded right and bottom with the mean colour.

    `cut_texts` cuts all texts to the longest: what follows an end token changes nothing in a causal text encoder.
    """
    height = max(example.image.shape[1] for example in examples)
    width = max(example.image.shape[2] for example in examples)
    return Batch(
        names=[example.name for example in examples],
        image=torch.from_numpy(np.stack([_padded(example.image, height, width) for example in examples])),
        task_tokens=torch.from_numpy(np.stack([example.task_tokens for example in examples])),
        labels=[torch.from_numpy(example.labels) for example in examples],
        masks=[torch.from_numpy(_padded(example.masks, height, width)) for example in examples],
        texts=_unique_texts(examples, cut_texts),
    )


def _padded(planes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    missing = (0, height - planes.shape[1]), (0, width - planes.shape[2])
    return np.pad(planes, ((0, 0), *missing)) if any(end for _, end in missing) else planes


def _unique_texts(examples: Sequence[Example], cut: bool) -> Texts:
    tokens = np.concatenate([example.text_tokens for example in examples])  # all texts, (sum of U, L)
    offsets = np.cumsum([0, *(len(example.text_tokens) for example in examples[:-1])])
    unique, position = np.unique(tokens, axis=0, return_inverse=True)
    position = position.reshape(-1)
    index = np.stack([position[example.text_index + offset] for example, offset in zip(examples, offsets, strict=True)])
    length = int((unique != 0).sum(axis=1).max()) if cut else unique.shape[1]
    return Texts(torch.from_numpy(np.ascontiguousarray(unique[:, :length])), torch.from_numpy(index))
