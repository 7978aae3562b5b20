"""Augmentations of what a picture looks like; ids stay as they are.

Each is a pure function of a sample and a random generator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from oneformer_data.hsv import recolor
from oneformer_data.sample import Sample

# Limits of the colour jitter of SSD (Liu et al. 2016, section 2.2): an addend, two factors, and a turn of the hue.
BRIGHTNESS = 32
FACTOR = (0.5, 1.5)
HUE_DEGREES = 36
BLUR = (0.1, 2.0)  # standard deviation in pixels

_BLOCK = 16_384  # pixels whose real numbers stay in the cache from step to step


def color(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Jitter brightness, contrast, saturation and hue, each with probability 0.5, as SSD does.

    The steps act on real numbers, which are rounded once in the end.
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
        place = np.s_[:, start : start + _BLOCK]
        bands = block[:, : pixels[place].shape[1]]
        bands[:] = pixels[place]
        _scale(bands, contrast if contrast_first else 1.0, brightness)
        recolor(bands, saturation=saturation, turn=turn)
        _scale(bands, 1.0 if contrast_first else contrast, 0.0)
        np.rint(bands, out=bands)
        changed[place] = bands
    return replace(sample, image=np.moveaxis(changed.reshape(planes.shape), 0, -1))


def blur(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Blur with a Gaussian of 0.1 to 2 pixels (Chen et al. 2020, SimCLR, appendix A)."""
    if rng.random() >= probability:
        return sample
    picture = Image.fromarray(np.ascontiguousarray(sample.image))
    return replace(sample, image=np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR)))))


def _factor(rng: np.random.Generator) -> float:
    factor = rng.uniform(*FACTOR)
    return factor if rng.random() < 0.5 else 1.0


def _scale(bands: NDArray[np.float32], factor: float, addend: float) -> None:
    """Add, cut to 0..255, multiply, cut to 0..255, in place."""
    for change, number, neutral in ((np.add, addend, 0.0), (np.multiply, factor, 1.0)):
        if number != neutral:
            change(bands, np.float32(number), out=bands)
            np.clip(bands, 0, 255, out=bands)
