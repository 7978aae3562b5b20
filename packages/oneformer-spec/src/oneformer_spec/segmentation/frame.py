"""Turn an image into the network's input (resize, normalise, pad), and map the network's masks back to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.segmentation.interpolation import resize, weights

Size = tuple[int, int]
"""Height and width in pixels."""

SIZE_TOLERANCE = 32
"""Pixels; fixed input sizes are rounded to multiples of it."""


@dataclass(frozen=True)
class ShortestEdge:
    """Scale the shortest edge to `shortest` pixels, but keep the longest edge at or below `longest` pixels.

    >>> ShortestEdge(512, 2048).scaled((480, 640))
    (512, 683)
    """

    shortest: int
    longest: int

    def scaled(self, size: Size) -> Size:
        """Return a size (height, width) after scaling; the aspect ratio stays."""
        return _scaled(size, min(self.shortest / min(size), self.longest / max(size)))

    @property
    def room(self) -> Size:
        """The size into which every scaled landscape image fits."""
        return self.shortest, self.longest

    def is_met_by(self, size: Size) -> bool:
        """Whether a fixed input size shows images at about the same scale as this rule."""
        return abs(min(size) - self.shortest) < SIZE_TOLERANCE

    def __str__(self) -> str:
        """Describe the rule in words."""
        return f"shortest edge {self.shortest}, longest at most {self.longest} pixels"


@dataclass(frozen=True)
class FitInto:
    """Scale to the largest size that fits into `height` by `width` pixels.

    >>> FitInto(height=512, width=512).scaled((480, 640))
    (384, 512)
    """

    height: int
    width: int

    def scaled(self, size: Size) -> Size:
        """Return a size (height, width) after scaling; the aspect ratio stays."""
        return _scaled(size, min(self.height / size[0], self.width / size[1]))

    @property
    def room(self) -> Size:
        """The size into which every scaled image fits."""
        return self.height, self.width

    def is_met_by(self, size: Size) -> bool:
        """Whether a fixed input size shows images at about the same scale as this rule."""
        return abs(size[0] - self.height) < SIZE_TOLERANCE and abs(size[1] - self.width) < SIZE_TOLERANCE

    def __str__(self) -> str:
        """Describe the rule in words."""
        return f"fits into {self.width} x {self.height} pixels"


SizeRule = ShortestEdge | FitInto


def _scaled(size: Size, scale: float) -> Size:
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


@dataclass(frozen=True)
class Frame:
    """The sizes (height, width) of one image: original, after scaling, and after padding on the right and bottom."""

    original: Size
    resized: Size
    padded: Size


def plan(original: Size, rule: SizeRule, *, divisibility: int, fixed: Size | None = None) -> Frame:
    """Return the sizes for an image of the size `original`.

    The padded edges are multiples of `divisibility`. With a `fixed` input size, the image is scaled to fit into it and
    padded to exactly that size; `rule` and `divisibility` are ignored.
    """
    if fixed is not None:
        return Frame(original, FitInto(*fixed).scaled(original), fixed)
    resized = rule.scaled(original)
    padded = tuple(-(-edge // divisibility) * divisibility for edge in resized)
    return Frame(original, resized, (padded[0], padded[1]))


def normalise(
    image: NDArray[np.floating] | NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    padded: Size | None = None,
) -> NDArray[np.float32]:
    """Normalise an RGB image (H, W, 3) with values 0..255 to float32 planes (3, H, W).

    With `padded`, the planes are padded on the right and bottom to that size with 0, which is the mean colour.
    """
    return _normalised(np.moveaxis(image, -1, 0), mean, std, padded)


def prepare(
    image: NDArray[np.uint8], frame: Frame, *, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Turn an RGB image, uint8 (H, W, 3), into the network's input, float32 (3, padded height, padded width).

    The image is resized and normalised; the padding is 0, which is the mean colour.
    """
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=np.float32)  # (H, W, 3) -> (3, H, W)
    return _normalised(resize(planes, frame.resized), mean, std, frame.padded)


def _normalised(
    planes: NDArray[np.floating] | NDArray[np.uint8], mean: Sequence[float], std: Sequence[float], padded: Size | None
) -> NDArray[np.float32]:
    height, width = planes.shape[1:]
    canvas = np.zeros((3, *(padded or (height, width))), dtype=np.float32)
    inside = canvas[:, :height, :width]
    inside[:] = planes
    inside -= np.asarray(mean, dtype=np.float32)[:, None, None]
    inside /= np.asarray(std, dtype=np.float32)[:, None, None]
    return canvas


@lru_cache(maxsize=16)
def undo(frame: Frame, size: Size) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the row and column matrices that resize mask logits of `size` to the original image.

    They combine the steps of the original implementation: interpolate to the padded input size, crop the padding,
    interpolate to the original size. Their shapes are (original height, mask height) and (original width, mask width).
    """
    rows, columns = (
        weights(frame.resized[axis], frame.original[axis], antialias=False)
        @ weights(size[axis], frame.padded[axis], antialias=False)[: frame.resized[axis]]
        for axis in (0, 1)
    )
    return rows, columns
