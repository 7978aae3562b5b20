"""CutMix (Yun et al. 2019) for segmentation: paste a rectangle of one sample, with its segments, into another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from oneformer_data.sample import Sample
from oneformer_data.training.transforms import Color


def cutmix(sample: Sample, other: Sample, rng: np.random.Generator, *, fill: Color) -> Sample:
    """Paste a random rectangle of `other` into the same position of `sample`.

    Its area is a uniform share of `other`'s, its centre is uniform, and what sticks out is cut off. Images of different
    sizes are first padded on the right and bottom, with `fill` and void, to a size that holds both.
    """
    share = np.sqrt(rng.random())
    centre, half = rng.random(2) * other.size, share * np.array(other.size) / 2
    top, left = np.maximum(centre - half, 0).astype(int)
    bottom, right = np.minimum(centre + half, other.size).astype(int)
    size = max(sample.size[0], other.size[0]), max(sample.size[1], other.size[1])
    layers = max(len(sample.id_maps), len(other.id_maps))
    base, patch = (_enlarged(part, size, layers, fill) for part in (sample, _renumbered(other, sample)))
    image, id_maps = base.image.copy(), base.id_maps.copy()
    image[top:bottom, left:right] = patch.image[top:bottom, left:right]
    id_maps[:, top:bottom, left:right] = patch.id_maps[:, top:bottom, left:right]
    name = f"{sample.name}+{other.name}"
    return replace(sample, name=name, image=image, id_maps=id_maps, segments=base.segments + patch.segments)


def _renumbered(sample: Sample, taken: Sample) -> Sample:
    """Return a sample with its segment ids shifted, so that none equals an id of `taken`."""
    offset = max((segment.id for segment in taken.segments), default=0)
    segments = tuple(replace(segment, id=segment.id + offset) for segment in sample.segments)
    return replace(sample, id_maps=np.where(sample.id_maps > 0, sample.id_maps + offset, 0), segments=segments)


def _enlarged(sample: Sample, size: tuple[int, int], layers: int, fill: Color) -> Sample:
    height, width = sample.size
    if sample.size == size and len(sample.id_maps) == layers:
        return sample
    image = np.full((*size, 3), fill, dtype=np.uint8)
    image[:height, :width] = sample.image
    id_maps = np.zeros((layers, *size), dtype=np.int32)
    id_maps[: len(sample.id_maps), :height, :width] = sample.id_maps
    return replace(sample, image=image, id_maps=id_maps)
