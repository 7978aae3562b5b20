"""Segments that overlap: packed into as few id maps as it takes, and painted over each other into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.sample import Sample, SegmentInfo

_MOST_LAYERS = 100  # each has the picture's size; in real data few objects share a pixel


def put(layers: list[NDArray[np.int32]], mask: NDArray[np.bool_], number: int) -> None:
    """Write an id into the first layer (H, W) where no pixel of its mask (H, W) is taken, or into a new one.

    Raises:
        ValueError: There are too many layers.
    """
    for layer in layers:
        if not layer[mask].any():
            layer[mask] = number
            return
    if len(layers) == _MOST_LAYERS:
        raise ValueError(f"more than {_MOST_LAYERS} objects lie on one place")
    layers.append(np.where(mask, np.int32(number), np.int32(0)))


def stacked(masks: Iterable[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.int32]:
    """Return id maps (L, H, W), at least one, of masks (H, W), whose ids count from 1.

    Raises:
        ValueError: There are too many layers.
    """
    layers: list[NDArray[np.int32]] = []
    for number, mask in enumerate(masks, start=1):
        put(layers, mask, number)
    return np.stack(layers) if layers else np.zeros((1, *size), dtype=np.int32)


def masks(sample: Sample, segments: Iterable[SegmentInfo]) -> Iterator[tuple[SegmentInfo, NDArray[np.bool_]]]:
    """Yield segments of a sample with their masks (H, W)."""
    homes = {number: layer for layer in sample.id_maps for number in value_counts(layer)}
    for segment in segments:
        yield segment, homes[segment.id] == segment.id


def flat_ids(sample: Sample) -> NDArray[np.int32]:
    """Return one id map (H, W) of a sample: where segments overlap, the smaller one lies on top."""
    if len(sample.id_maps) == 1:
        layer: NDArray[np.int32] = sample.id_maps[0]
        return layer
    areas = value_counts(sample.id_maps)
    flat = np.zeros(sample.size, dtype=np.int32)
    for segment, mask in masks(sample, sorted(sample.segments, key=lambda segment: -areas[segment.id])):
        flat[mask] = segment.id
    return flat
