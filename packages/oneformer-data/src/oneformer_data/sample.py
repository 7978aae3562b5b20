"""One annotated picture, as every reader gives it and every augmentation takes and returns it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SegmentInfo:
    """One annotated region: its id in the id maps (above 0), class index, kind, and whether it is a crowd."""

    id: int
    class_index: int
    isthing: bool
    is_crowd: bool


@dataclass(frozen=True)
class Sample:
    """A picture, uint8 RGB (H, W, 3), with its segments.

    `id_maps` is int32 (L, H, W): a pixel holds the id of a segment, or 0 for void. Every segment lies in exactly one of
    the L >= 1 layers; panoptic annotations have one layer, more layers keep overlapping instances apart.
    `name` is unique in its data set: the picture's path below its root.
    """

    name: str
    image_id: int | str
    image: NDArray[np.uint8]
    id_maps: NDArray[np.int32]
    segments: tuple[SegmentInfo, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]
