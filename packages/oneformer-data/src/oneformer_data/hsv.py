"""Saturation and hue changed as in HSV, in real numbers and without going through HSV.

In HSV the value is the largest band, the chroma C is the largest minus the smallest, and the hue h goes around in six
sextants. Each band x is the same trapezoid of h, which we count from the middle of its top:
x = smallest + clip(C (2 - |h|), 0, C), and C (2 - |h|) = largest + x - y - z for the two bands y and z that come next.
A turn by t sextants adds t to h. So it adds C t to that sum or takes it away, by the sign of h, which is that of y - z.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""One number per pixel (N,)."""

LARGEST_TURN = 50
"""In degrees; from 60 on a turn would reach the next sextant but one."""

_STEEP = 8  # Where |y - z| < C t / 8, h is so near 0 or 3 that x is clipped whatever the sign.
_TINY = np.float32(1e-5)  # beside a chroma in levels of 0..255


def recolor(bands: NDArray[np.float32], *, saturation: float, turn: float) -> None:
    """Scale the saturation of bands (3, N), red, green and blue in 0..255, and turn their hue by degrees, in place.

    The turn is at most `LARGEST_TURN` either way.
    """
    largest, smallest = bands.max(axis=0), bands.min(axis=0)
    if turn:
        _turn(bands, largest, smallest, turn / 60)
    if saturation != 1:  # the value stays
        bands -= largest
        bands *= _ratio(largest, smallest, saturation)
        bands += largest


def _ratio(largest: Plane, smallest: Plane, saturation: float) -> Plane | np.float32:
    """Return what the chroma is multiplied by, so that no band goes below 0."""
    if saturation < 1:
        return np.float32(saturation)
    limit = largest / (largest - smallest + _TINY)
    return np.minimum(limit, np.float32(saturation), out=limit)


def _turn(bands: NDArray[np.float32], largest: Plane, smallest: Plane, sextants: float) -> None:
    red, green, blue = bands
    signs = [green - blue, blue - red, red - green]
    rest = largest + smallest - bands.sum(axis=0)
    bands *= 2
    bands += rest  # largest + smallest + x - y - z
    shift = (largest - smallest) * np.float32(abs(sextants))
    for band, sign in zip(bands, signs, strict=True):
        sign *= np.float32(np.copysign(_STEEP, sextants))
        band -= _between(sign, -shift, shift)
    _between(bands, smallest, largest)


def _between(values: Plane, low: Plane, high: Plane) -> Plane:
    """Clip in place; `numpy.clip` takes four times as long for bounds that are arrays."""
    np.maximum(values, low, out=values)
    return np.minimum(values, high, out=values)
