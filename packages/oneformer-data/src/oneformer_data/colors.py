"""Augmentations of what a picture looks like; ids stay as they are.

Each is a pure function of a sample and a random generator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from oneformer_data.sample import Sample

# Limits of the colour jitter of SSD (Liu et al. 2016, section 2.2): an addend, two factors, and a turn of the hue.
BRIGHTNESS = 32
FACTOR = (0.5, 1.5)
HUE_DEGREES = 36
BLUR = (0.1, 2.0)  # standard deviation in pixels


def color(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Jitter brightness, contrast, saturation and hue, each with probability 0.5, as SSD does."""
    if rng.random() >= probability:
        return sample
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS) * (rng.random() < 0.5)
    contrast = _factor(rng)
    contrast_first = rng.random() < 0.5
    saturation = _factor(rng)
    turn = rng.uniform(-HUE_DEGREES, HUE_DEGREES) * (rng.random() < 0.5)
    levels = np.arange(256, dtype=np.float64)
    brighter = np.clip(levels + brightness, 0, 255)
    contrasting = np.clip(levels * contrast, 0, 255)
    picture = Image.fromarray(np.ascontiguousarray(sample.image))
    picture = _mapped(picture, _levels(brighter * contrast) if contrast_first else _levels(brighter))
    picture = _recolored(picture, saturation, turn)
    picture = picture if contrast_first else _mapped(picture, _levels(contrasting))
    return replace(sample, image=np.asarray(picture))


def blur(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Blur with a Gaussian of 0.1 to 2 pixels (Chen et al. 2020, SimCLR, appendix A)."""
    if rng.random() >= probability:
        return sample
    picture = Image.fromarray(np.ascontiguousarray(sample.image))
    return replace(sample, image=np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR)))))


def _factor(rng: np.random.Generator) -> float:
    factor = rng.uniform(*FACTOR)
    return factor if rng.random() < 0.5 else 1.0


def _levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _mapped(picture: Image.Image, *levels: NDArray[np.uint8]) -> Image.Image:
    """Replace every level of each band by another; one table serves all three bands."""
    tables = levels if len(levels) == 3 else levels * 3
    return picture.point([int(level) for table in tables for level in table])


def _recolored(picture: Image.Image, saturation: float, turn: float) -> Image.Image:
    """Scale the saturation and turn the hue by degrees."""
    if saturation == 1.0 and turn == 0.0:
        return picture
    levels = np.arange(256, dtype=np.float64)
    hue = ((levels + turn * 256 / 360).round() % 256).astype(np.uint8)
    return _mapped(picture.convert("HSV"), hue, _levels(levels * saturation), _levels(levels)).convert("RGB")
