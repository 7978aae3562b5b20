"""From a picture to the network's input, and the way back: resize, normalise, pad, and undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.segmentation.interpolation import resize, weights

Size = tuple[int, int]
"""Height and width in pixels."""

NEAR = 32
"""Pixels; fixed sizes are multiples of it."""


@dataclass(frozen=True)
class ShortestEdge:
    """Scale the shortest edge to `shortest` pixels unless the longest would pass `longest`."""

    shortest: int
    longest: int

    def scaled(self, size: Size) -> Size:
        """Return the size after scaling; the aspect ratio stays."""
        return _scaled(size, min(self.shortest / min(size), self.longest / max(size)))

    @property
    def room(self) -> Size:
        """The size that holds every picture that is wider than high."""
        return self.shortest, self.longest

    def is_met_by(self, size: Size) -> bool:
        """Tell whether an input of a fixed size shows pictures about as large as the rule does."""
        return abs(min(size) - self.shortest) < NEAR

    def __str__(self) -> str:
        """Say it in words."""
        return f"shortest edge {self.shortest}, longest at most {self.longest} pixels"


@dataclass(frozen=True)
class FitInto:
    """Scale to the largest size that fits into `height` by `width` pixels."""

    height: int
    width: int

    def scaled(self, size: Size) -> Size:
        """Return the size after scaling; the aspect ratio stays."""
        return _scaled(size, min(self.height / size[0], self.width / size[1]))

    @property
    def room(self) -> Size:
        """The size that holds every picture."""
        return self.height, self.width

    def is_met_by(self, size: Size) -> bool:
        """Tell whether an input of a fixed size shows pictures about as large as the rule does."""
        return abs(size[0] - self.height) < NEAR and abs(size[1] - self.width) < NEAR

    def __str__(self) -> str:
        """Say it in words."""
        return f"fits into {self.width} x {self.height} pixels"


SizeRule = ShortestEdge | FitInto


def _scaled(size: Size, scale: float) -> Size:
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


@dataclass(frozen=True)
class Frame:
    """The three sizes of one picture: as read, after scaling, and after padding right and bottom."""

    original: Size
    resized: Size
    padded: Size


def plan(original: Size, rule: SizeRule, *, divisibility: int, fixed: Size | None = None) -> Frame:
    """Return the frame of a picture; a `fixed` input size wins over the rule and is padded to exactly."""
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
    """Return an RGB picture (H, W, 3) with values 0..255 as normalised float32 planes (3, H, W).

    Padded right and bottom to a size that is given, with 0, which is the mean colour.
    """
    return _normalised(np.moveaxis(image, -1, 0), mean, std, padded)


def prepare(
    image: NDArray[np.uint8], frame: Frame, *, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Return the network's input, float32 (3, padded height, padded width), of an RGB picture uint8 (H, W, 3).

    Padding is 0 after normalisation, which is the mean colour.
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
    """Return the row and column matrices that carry mask logits of `size` back to the original picture.

    They compose the steps of the original implementation: interpolate to the padded input, cut the padding off,
    interpolate to the original size. Both are (original edge, mask edge).
    """
    rows, columns = (
        weights(frame.resized[axis], frame.original[axis], antialias=False)
        @ weights(size[axis], frame.padded[axis], antialias=False)[: frame.resized[axis]]
        for axis in (0, 1)
    )
    return rows, columns
