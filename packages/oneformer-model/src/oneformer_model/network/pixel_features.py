"""What pixel decoders have in common: which levels of a backbone they read, and what they hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class PixelFeatures(NamedTuple):
    """What the query decoder sees: `mask_features` (B, D, h, w) and `levels`, maps (B, C, h, w), coarsest first."""

    mask_features: Tensor
    levels: tuple[Tensor, ...]


class PixelDecoder(Protocol):
    """What a pixel decoder must have."""

    use_checkpoint: bool
    """Recompute activations in the backward pass instead of keeping them."""

    def __call__(self, features: Mapping[str, Tensor], /) -> PixelFeatures:
        """Decode the backbone's maps (B, C, h, w), by the names of their levels."""
        ...


class Levels(NamedTuple):
    """The levels that a pixel decoder makes maps of, coarsest first, and which of them the masks come from."""

    names: list[str]
    masks: int


def decoded_levels(
    features: Sequence[str],
    strides: Mapping[str, int],
    *,
    common_stride: int,
    num_output_levels: int,
    encoded: Sequence[str] = (),
) -> Levels:
    """Choose from a backbone's levels, whose `strides` are given.

    Args:
        features: The levels to read; those that the backbone has below the finest of them join in.
        strides: Stride of each level of the backbone.
        common_stride: Stride of the masks.
        num_output_levels: Levels that the queries attend to.
        encoded: Levels that an encoder sees together: all of them stay, and of the others only finer ones.

    Raises:
        ValueError: No level has the stride of the masks, or fewer levels exist than are asked for.
    """
    finest = min(strides[name] for name in features)
    read = [name for name in strides if name in features or strides[name] < finest]
    if encoded:
        finest = min(strides[name] for name in encoded)
        read = [*encoded, *(name for name in read if strides[name] < finest)]
    names = sorted(read, key=lambda name: -strides[name])
    known = "the pixel decoder has " + ", ".join(f"{name} (stride {strides[name]})" for name in names)
    masks = next((index for index, name in enumerate(names) if strides[name] == common_stride), None)
    if masks is None:
        raise ValueError(f"masks of stride {common_stride} need a level of that stride; {known}")
    if num_output_levels > len(names):
        raise ValueError(f"{num_output_levels} levels for the queries are asked for; {known}")
    return Levels(names[: max(masks + 1, num_output_levels, len(encoded))], masks)
