"""Augmentations: each is a pure function of a sample and a random generator.

Pictures are resampled with antialiasing, id maps take the nearest pixel. What leaves the picture is gone; the segments
without a pixel left stay listed, and `targets` drops them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneformer_data.sample import Sample
from oneformer_spec.frame import ShortestEdge, Size

Transform = Callable[[Sample, np.random.Generator], Sample]

# Limits of the colour jitter of SSD (Liu et al. 2016, section 2.2): an addend, two factors, and a turn of the hue.
BRIGHTNESS = 32
FACTOR = (0.5, 1.5)
HUE_DEGREES = 36


def large_scale_jitter(
    sample: Sample, rng: np.random.Generator, *, crop: Size, min_scale: float, max_scale: float
) -> Sample:
    """Scale to fit into the crop size times a random factor, then cut a random window of at most the crop size.

    Large-scale jitter of Ghiasi et al. 2021 (Simple Copy-Paste, section 3).
    """
    height, width = sample.size
    scale = rng.uniform(min_scale, max_scale)
    factor = min(scale * crop[0] / height, scale * crop[1] / width)
    return _scale_and_crop(sample, rng, size=_rounded(height * factor, width * factor), crop=crop)


def shortest_edge(
    sample: Sample, rng: np.random.Generator, *, crop: Size, sizes: Sequence[int], longest: int
) -> Sample:
    """Scale the shortest edge to one of `sizes`, the longest to `longest` at most, then cut a random window."""
    shortest = int(rng.choice(sizes))
    return _scale_and_crop(sample, rng, size=ShortestEdge(shortest, longest).scaled(sample.size), crop=crop)


def flip(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Mirror left to right."""
    if rng.random() >= probability:
        return sample
    return replace(sample, image=sample.image[:, ::-1], id_maps=sample.id_maps[..., ::-1])


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


def _scale_and_crop(sample: Sample, rng: np.random.Generator, *, size: Size, crop: Size) -> Sample:
    """Scale a sample to `size` and keep a random window of at most `crop`; only the window is computed."""
    height, width = min(size[0], crop[0]), min(size[1], crop[1])
    top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    (full_height, full_width), (down, across) = sample.size, (sample.size[0] / size[0], sample.size[1] / size[1])
    box = (left * across, top * down, min((left + width) * across, full_width), min((top + height) * down, full_height))
    image = Image.fromarray(sample.image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    rows, columns = _nearest(top, height, down), _nearest(left, width, across)
    id_maps = sample.id_maps.take(rows, axis=1).take(columns, axis=2)
    return replace(sample, image=np.asarray(image), id_maps=id_maps)


def _nearest(start: int, count: int, step: float) -> NDArray[np.intp]:
    """Return the source pixels whose middles are nearest to those of `count` target pixels from `start` on."""
    return ((np.arange(start, start + count) + 0.5) * step).astype(np.intp)


def _rounded(height: float, width: float) -> Size:
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


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
