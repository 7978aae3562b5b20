"""Colour augmentations: each is a pure function of a sample and a random generator, and leaves the id maps alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from oneformer_data.sample import Sample

# Limits of the colour jitter of SSD (Liu et al. 2016, section 2.2): an addend, two factors, and a hue rotation.
BRIGHTNESS = 32
FACTOR = (0.5, 1.5)
HUE_DEGREES = 36
BLUR = (0.1, 2.0)  # standard deviation in pixels

_BLOCK = 16_384  # pixels per block, so that its float32 values stay in the CPU cache across the steps


def color(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Jitter brightness, contrast, saturation and hue, each with probability 0.5, as SSD does.

    The steps compute in float32; the result is rounded once, at the end.
    """
    if rng.random() >= probability:
        return sample
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS) * (rng.random() < 0.5)
    contrast = _factor(rng)
    contrast_first = rng.random() < 0.5
    saturation = _factor(rng)
    turn = rng.uniform(-HUE_DEGREES, HUE_DEGREES) * (rng.random() < 0.5)
    planes = np.ascontiguousarray(np.moveaxis(sample.image, -1, 0))  # (H, W, 3) -> (3, H, W)
    pixels = planes.reshape(3, -1)
    changed, block = np.empty_like(pixels), np.empty((3, _BLOCK), dtype=np.float32)
    for start in range(0, pixels.shape[1], _BLOCK):
        columns = np.s_[:, start : start + _BLOCK]
        bands = block[:, : pixels[columns].shape[1]]
        bands[:] = pixels[columns]
        _scale(bands, contrast if contrast_first else 1.0, brightness)
        recolor(bands, saturation=saturation, turn=turn)
        _scale(bands, 1.0 if contrast_first else contrast, 0.0)
        np.rint(bands, out=bands)
        changed[columns] = bands
    return replace(sample, image=np.moveaxis(changed.reshape(planes.shape), 0, -1))


def blur(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Blur with a Gaussian whose standard deviation is 0.1 to 2 pixels (Chen et al. 2020, SimCLR, appendix A)."""
    if rng.random() >= probability:
        return sample
    picture = Image.fromarray(np.ascontiguousarray(sample.image))
    return replace(sample, image=np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR)))))


def _factor(rng: np.random.Generator) -> float:
    factor = rng.uniform(*FACTOR)
    return factor if rng.random() < 0.5 else 1.0


def _scale(bands: NDArray[np.float32], factor: float, addend: float) -> None:
    """Add, clip to 0..255, multiply, clip to 0..255, all in place."""
    for change, number, neutral in ((np.add, addend, 0.0), (np.multiply, factor, 1.0)):
        if number != neutral:
            change(bands, np.float32(number), out=bands)
            np.clip(bands, 0, 255, out=bands)


Plane = NDArray[np.float32]
"""One value per pixel (N,)."""

LARGEST_TURN = 50
"""The largest hue rotation in degrees; from 60 on, a hue could move past a whole sextant of the colour circle."""

_STEEP = 8  # Where |y - z| < C t / 8, h is so near 0 or 3 that x is clipped whatever the sign.
_TINY = np.float32(1e-5)  # negligible next to a chroma of 0..255


def recolor(bands: NDArray[np.float32], *, saturation: float, turn: float) -> None:
    """Scale the saturation of RGB values (3, N) in 0..255 and rotate their hue by `turn` degrees, in place.

    The rotation is at most `LARGEST_TURN` either way.
    """
    largest, smallest = bands.max(axis=0), bands.min(axis=0)
    if turn:
        _turn(bands, largest, smallest, turn / 60)
    if saturation != 1:  # HSV value stays the same
        bands -= largest
        bands *= _ratio(largest, smallest, saturation)
        bands += largest


def _ratio(largest: Plane, smallest: Plane, saturation: float) -> Plane | np.float32:
    """Return the factor for the chroma, limited so that no band goes below 0."""
    if saturation < 1:
        return np.float32(saturation)
    limit = largest / (largest - smallest + _TINY)
    return np.minimum(limit, np.float32(saturation), out=limit)


def _turn(bands: NDArray[np.float32], largest: Plane, smallest: Plane, sextants: float) -> None:
    red, green, blue = bands
    signs = [green - blue, blue - red, red - green]
    offset = largest + smallest - bands.sum(axis=0)
    bands *= 2
    bands += offset  # largest + smallest + x - y - z
    shift = (largest - smallest) * np.float32(abs(sextants))
    for band, sign in zip(bands, signs, strict=True):
        sign *= np.float32(np.copysign(_STEEP, sextants))
        band -= _between(sign, -shift, shift)
    _between(bands, smallest, largest)


def _between(values: Plane, low: Plane, high: Plane) -> Plane:
    """Clip in place; `numpy.clip` takes four times as long if the bounds are arrays."""
    np.maximum(values, low, out=values)
    return np.minimum(values, high, out=values)
