"""Count how often each value occurs in a label map, fast.

Neighbouring pixels are mostly equal, so runs of equal pixels are found first and only one entry per run is sorted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IdMap = NDArray[np.int32]


def value_counts(ids: IdMap) -> dict[int, int]:
    """Return the number of pixels of each value in a map of any shape."""
    flat = ids.ravel()
    ends = _run_ends(flat)
    values, pixels = _summed(flat[ends].astype(np.int64), np.diff(ends, prepend=-1))
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def pair_counts(first: IdMap, second: IdMap) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the K distinct pairs of values at the same pixel of two equally large maps, and how often: three (K,)."""
    one, other = first.ravel(), second.ravel()
    ends = _run_ends(one, other)
    joint = (one[ends].astype(np.int64) << 32) | other[ends]
    pairs, pixels = _summed(joint, np.diff(ends, prepend=-1))
    return pairs >> 32, pairs & 0xFFFFFFFF, pixels


def _run_ends(*maps: IdMap) -> NDArray[np.int64]:
    """Return the index of the last pixel of every run in which none of the maps (N,) changes."""
    last = np.empty(maps[0].size, dtype=np.bool_)
    np.not_equal(maps[0][1:], maps[0][:-1], out=last[:-1])
    for ids in maps[1:]:
        last[:-1] |= ids[1:] != ids[:-1]
    last[-1:] = True
    return np.flatnonzero(last)


def _summed(keys: NDArray[np.int64], weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct keys in ascending order, and the sum of the weights of each."""
    values, inverse = np.unique(keys, return_inverse=True)
    return values, np.bincount(inverse, weights=weights).astype(np.int64)
