"""Feature extractors: an image in, maps named res2 to res5 out; `channels` and `strides` say what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Backbone(Protocol):
    """What a backbone must have: channels and stride of each output, by name, and the outputs themselves."""

    channels: Mapping[str, int]
    strides: Mapping[str, int]

    def __call__(self, image: Tensor, /) -> Mapping[str, Tensor]:
        """Return maps (B, channels, ceil(H / stride), ceil(W / stride)) of an image (B, 3, H, W) of any size."""
        ...


@runtime_checkable
class Staged(Protocol):
    """What a backbone may have so that `freeze_at` can freeze a part of it."""

    def stem_and_stages(self) -> Sequence[nn.Module]:
        """Return the stem, then each stage: modules of the backbone, or containers of such."""
        ...


@runtime_checkable
class Recomputing(Protocol):
    """What a backbone may have to recompute its own blocks; one without it is recomputed as a whole."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        ...


@runtime_checkable
class Initialising(Protocol):
    """What a backbone may have to begin with trained weights."""

    def initialise(self, path: str | None) -> list[str]:
        """Take the weights of a file; without one, keep those that it has or take those that its options name.

        Returns:
            What a user should know of it, one line each.
        """
        ...


@runtime_checkable
class Resampling(Protocol):
    """What a backbone may have that resamples tables, such as learned positions, to the size of each image."""

    def at_size(self, height: int, width: int) -> AbstractContextManager[None]:
        """Hold the tables as images of one size need them: a graph traced meanwhile resamples nothing."""
        ...
