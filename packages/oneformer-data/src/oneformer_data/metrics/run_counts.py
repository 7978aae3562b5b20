"""Count the values of label maps by runs: neighbouring pixels are mostly equal, so only the ends of runs are looked up.

What is left to count are a few thousand runs of a few dozen values, so they are summed by hash instead of by sorting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IdMap = NDArray[np.int32]

_SLOT_BITS = 14
_SPREAD = np.int64(0x9E3779B97F4A7C15 - 2**64)  # 2^64 over the golden ratio: multiplying spreads close keys


def value_counts(ids: IdMap) -> dict[int, int]:
    """Return the pixels per value of a map of any shape."""
    flat = ids.ravel()
    ends = _run_ends(flat)
    values, pixels = _summed(flat[ends].astype(np.int64), np.diff(ends, prepend=-1))
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def pair_counts(first: IdMap, second: IdMap) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of values that meet in two maps of one shape, and the pixels of each: (K,), (K,), (K,)."""
    one, other = first.ravel(), second.ravel()
    ends = _run_ends(one, other)
    joint = (one[ends].astype(np.int64) << 32) | other[ends]
    pairs, pixels = _summed(joint, np.diff(ends, prepend=-1))
    return pairs >> 32, pairs & 0xFFFFFFFF, pixels


def _run_ends(*maps: IdMap) -> NDArray[np.int64]:
    """Return the last pixel of every run in which no map (N,) changes."""
    last = np.empty(maps[0].size, dtype=np.bool_)
    np.not_equal(maps[0][1:], maps[0][:-1], out=last[:-1])
    for ids in maps[1:]:
        last[:-1] |= ids[1:] != ids[:-1]
    last[-1:] = True
    return np.flatnonzero(last)


def _summed(keys: NDArray[np.int64], weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different keys in ascending order and the sum of the weights (above 0) of each.

    Each key takes the slot of a table that its hash says. Where two keys claim one slot, sorting settles it.
    """
    slots = ((keys * _SPREAD).view(np.uint64) >> np.uint64(64 - _SLOT_BITS)).view(np.int64)
    owners = np.zeros(1 << _SLOT_BITS, dtype=np.int64)
    owners[slots] = keys
    if (owners[slots] == keys).all():
        sums = np.bincount(slots, weights=weights, minlength=len(owners))
        used = np.flatnonzero(sums)
        used = used[owners[used].argsort()]
        return owners[used], sums[used].astype(np.int64)
    values, places = np.unique(keys, return_inverse=True)
    return values, np.bincount(places, weights=weights).astype(np.int64)
