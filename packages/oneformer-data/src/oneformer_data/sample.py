"""An annotated image: what every reader returns and every augmentation takes and returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SegmentInfo:
    """One annotated region of an image.

    `id` is its value in the id maps, above 0. `class_index` is its position in the label map (not the category id).
    """

    id: int
    class_index: int
    isthing: bool
    is_crowd: bool


@dataclass(frozen=True)
class Sample:
    """An image, uint8 RGB (H, W, 3), and its annotated segments.

    `id_maps` is int32 (L, H, W): each pixel holds the id of a segment, or 0 for void. Every segment lies in exactly one
    of the L >= 1 layers: one layer is enough for panoptic annotations, overlapping instances need more.
    `name` is unique within the data set: the image's path relative to the image folder.
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
