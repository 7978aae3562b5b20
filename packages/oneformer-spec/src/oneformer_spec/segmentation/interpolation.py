"""Linear interpolation as a matrix product per axis, so that images are resized identically with every runtime."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 64


@lru_cache(maxsize=32)
def weights(source: int, target: int, *, antialias: bool) -> NDArray[np.float32]:
    """Return the matrix (target, source) that resizes one axis by linear interpolation.

    Pixel centres lie at half-integers (align_corners=False). With `antialias` the triangle widens when shrinking, as in
    Pillow; without it the matrix is that of torch's bilinear `interpolate`.
    """
    scale = source / target
    support = max(scale, 1.0) if antialias else 1.0
    centre = (np.arange(target, dtype=np.float64) + 0.5) * scale - 0.5
    if not antialias:
        centre = np.clip(centre, 0.0, source - 1.0)
    taps = np.floor(centre - support).astype(np.int64)[:, None] + np.arange(2 * ceil(support) + 2)  # (target, taps)
    share = np.maximum(1.0 - np.abs(taps - centre[:, None]) / support, 0.0)
    share[(taps < 0) | (taps >= source)] = 0.0
    share /= share.sum(axis=1, keepdims=True)
    matrix = np.zeros((target, source), dtype=np.float32)
    np.add.at(matrix, (np.arange(target)[:, None], np.clip(taps, 0, source - 1)), share.astype(np.float32))
    matrix.setflags(write=False)
    return matrix


class Band(NamedTuple):
    """The non-zero part of some rows of a matrix (target, source): `matrix` covers rows `target`, columns `source`."""

    target: slice
    source: slice
    matrix: NDArray[np.float32]


def bands(matrix: NDArray[np.float32], block: int = _BLOCK) -> tuple[Band, ...]:
    """Split a matrix (target, source) into bands of `block` rows, each with only the columns that it uses."""
    result = []
    for start in range(0, len(matrix), block):
        rows = matrix[start : start + block]
        used = np.flatnonzero(rows.any(axis=0))
        source = slice(int(used[0]), int(used[-1]) + 1)
        result.append(Band(slice(start, start + len(rows)), source, np.ascontiguousarray(rows[:, source])))
    return tuple(result)


def resize(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize float32 planes (..., H, W) to `size` (height, width) with antialiased linear interpolation."""
    height, width = image.shape[-2:]
    if (height, width) == size:
        return image
    widened = np.empty((*image.shape[:-1], size[1]), dtype=np.float32)  # (..., H, size[1])
    for band in bands(weights(width, size[1], antialias=True)):
        widened[..., band.target] = image[..., band.source] @ band.matrix.T
    resized = np.empty((*image.shape[:-2], *size), dtype=np.float32)
    for band in bands(weights(height, size[0], antialias=True)):
        resized[..., band.target, :] = band.matrix @ widened[..., band.source, :]
    return resized
