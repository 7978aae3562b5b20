"""Geometric augmentations: each is a pure function of a sample and a random generator.

Images are resampled with antialiasing, id maps by nearest neighbour. Segments that end up without pixels stay in the
list of segments; `targets` drops them. Areas that an augmentation fills in or erases become void.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.training.scaling import scaled
from oneformer_spec.segmentation.frame import ShortestEdge, Size, SizeRule

Transform = Callable[[Sample, np.random.Generator], Sample]

Color = tuple[int, int, int]
"""Red, green and blue, 0..255."""

ROTATION_DEGREES = 15
ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)  # fractions of the image area; height / width
LARGEST_SHARE = 0.75
ATTEMPTS = 10


def large_scale_jitter(
    sample: Sample, rng: np.random.Generator, *, crop: Size, min_scale: float, max_scale: float
) -> Sample:
    """Scale to fit into the crop size times a random factor, then crop a random window of at most the crop size.

    Large-scale jitter of Ghiasi et al. 2021 (Simple Copy-Paste, section 3).
    """
    height, width = sample.size
    scale = rng.uniform(min_scale, max_scale)
    factor = min(scale * crop[0] / height, scale * crop[1] / width)
    return _scale_and_crop(sample, rng, size=_rounded(height * factor, width * factor), crop=crop)


def shortest_edge(
    sample: Sample, rng: np.random.Generator, *, crop: Size, sizes: Sequence[int], longest: int
) -> Sample:
    """Scale the shortest edge to one of `sizes` pixels, the longest to at most `longest`, then crop a random window.

    A window that one class nearly fills is sampled again, up to ten tries (as in MaskFormer's semantic training).
    """
    size = ShortestEdge(int(rng.choice(sizes)), longest).scaled(sample.size)
    return _scale_and_crop(sample, rng, size=size, crop=crop, largest_share=LARGEST_SHARE)


def fit(sample: Sample, rng: np.random.Generator, *, rule: SizeRule) -> Sample:
    """Scale the whole sample as for inference; nothing is random."""
    size = rule.scaled(sample.size)
    return _scale_and_crop(sample, rng, size=size, crop=size)


def flip(sample: Sample, rng: np.random.Generator, *, probability: float) -> Sample:
    """Mirror left to right, with the given probability."""
    if rng.random() >= probability:
        return sample
    return replace(sample, image=sample.image[:, ::-1], id_maps=sample.id_maps[..., ::-1])


def rotate(sample: Sample, rng: np.random.Generator, *, probability: float, fill: Color) -> Sample:
    """Rotate about the centre by up to 15 degrees either way; the size stays, the corners become `fill` and void."""
    if rng.random() >= probability:
        return sample
    angle = rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)
    image = Image.fromarray(np.ascontiguousarray(sample.image)).rotate(angle, Image.Resampling.BILINEAR, fillcolor=fill)
    layers = [Image.fromarray(ids).rotate(angle, Image.Resampling.NEAREST, fillcolor=0) for ids in sample.id_maps]
    return replace(sample, image=np.asarray(image), id_maps=np.stack([np.asarray(layer) for layer in layers]))


def erase(sample: Sample, rng: np.random.Generator, *, probability: float, fill: Color) -> Sample:
    """Replace a random rectangle of 2 to 33 % of the area with `fill` and void (Zhong et al. 2020, Random Erasing)."""
    if rng.random() >= probability:
        return sample
    height, width = sample.size
    for _ in range(ATTEMPTS):
        area, aspect = rng.uniform(*ERASED_AREA) * height * width, np.exp(rng.uniform(*np.log(ERASED_ASPECT)))
        tall, wide = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < tall <= height and 0 < wide <= width:
            top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
            image, id_maps = sample.image.copy(), sample.id_maps.copy()
            image[top : top + tall, left : left + wide] = fill
            id_maps[:, top : top + tall, left : left + wide] = 0
            return replace(sample, image=image, id_maps=id_maps)
    return sample


def _scale_and_crop(
    sample: Sample, rng: np.random.Generator, *, size: Size, crop: Size, largest_share: float = 1.0
) -> Sample:
    """Scale a sample to `size` and crop a random window of at most `crop`, computing only the window.

    A window in which one class has more than `largest_share` of the labelled pixels is sampled again.
    """
    height, width = min(size[0], crop[0]), min(size[1], crop[1])
    (full_height, full_width), (row_step, column_step) = (
        sample.size,
        (sample.size[0] / size[0], sample.size[1] / size[1]),
    )
    for _ in range(ATTEMPTS):
        top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
        rows, columns = _nearest(top, height, row_step), _nearest(left, width, column_step)
        id_maps = sample.id_maps.take(rows, axis=1).take(columns, axis=2)
        if largest_share >= 1 or _largest_share(sample.segments, id_maps) <= largest_share:
            break
    right, bottom = min((left + width) * column_step, full_width), min((top + height) * row_step, full_height)
    box = (left * column_step, top * row_step, right, bottom)
    return replace(sample, image=scaled(sample.image, (height, width), box), id_maps=id_maps)


def _largest_share(segments: Sequence[SegmentInfo], id_maps: NDArray[np.int32]) -> float:
    """Return the share (0..1) of the most frequent class among the labelled pixels; 0 without labelled pixels."""
    pixels, areas = value_counts(id_maps), dict[int, int]()
    for segment in segments:
        areas[segment.class_index] = areas.get(segment.class_index, 0) + pixels.get(segment.id, 0)
    total = sum(areas.values())
    return max(areas.values()) / total if total else 0.0


def _nearest(start: int, count: int, step: float) -> NDArray[np.intp]:
    """Return the indices of the source pixels nearest to `count` target pixels, beginning with target pixel `start`."""
    return ((np.arange(start, start + count) + 0.5) * step).astype(np.intp)


def _rounded(height: float, width: float) -> Size:
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))
