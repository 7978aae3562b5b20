"""What the network must find: for each class, the band of pixels along the edges of its segments."""

import numpy as np
from numpy.typing import NDArray

from oneformer_data import Sample, Targets


def edges(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the pixels of an id map (H, W) that have another segment, or void, above, below or beside them."""
    height, width = ids.shape
    padded = np.pad(ids, 1, mode="edge")
    shifts = ((0, 1), (2, 1), (1, 0), (1, 2))
    return np.any([padded[y : y + height, x : x + width] != ids for y, x in shifts], axis=0)


def targets(sample: Sample) -> Targets:
    """Return a mask (H, W) per class that has a boundary in the sample."""
    bands = np.where([edges(layer) for layer in sample.id_maps], sample.id_maps, 0)  # (L, H, W): ids on edges alone
    masks: dict[int, NDArray[np.bool_]] = {}
    for segment in sample.segments:
        mask = (bands == segment.id).any(axis=0)
        if mask.any():
            masks[segment.class_index] = masks.get(segment.class_index, mask) | mask
    stacked = np.array([*masks.values()], dtype=np.bool_).reshape(-1, *sample.size)
    return Targets(np.array([*masks], dtype=np.int64), stacked)
