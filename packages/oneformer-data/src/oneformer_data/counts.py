"""Count the values of label maps by runs: neighbouring pixels are mostly equal, so only the run starts are sorted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IdMap = NDArray[np.int32]


def value_counts(ids: IdMap) -> dict[int, int]:
    """Return the pixels per value of a map of any shape."""
    flat = ids.ravel()
    starts = _run_starts(flat[1:] != flat[:-1], flat.size)
    values, places = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(places, weights=_lengths(starts, flat.size), minlength=len(values))
    return dict(zip(values.tolist(), pixels.astype(np.int64).tolist(), strict=True))


def pair_counts(first: IdMap, second: IdMap) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of values that meet in two maps of one shape, and the pixels of each: (K,), (K,), (K,)."""
    one, other = first.ravel(), second.ravel()
    starts = _run_starts((one[1:] != one[:-1]) | (other[1:] != other[:-1]), one.size)
    joint = (one[starts].astype(np.int64) << 32) | other[starts].astype(np.int64)
    pairs, places = np.unique(joint, return_inverse=True)
    pixels = np.bincount(places, weights=_lengths(starts, one.size), minlength=len(pairs))
    return pairs >> 32, pairs & 0xFFFFFFFF, pixels.astype(np.int64)


def _run_starts(changes: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    if not size:
        return np.zeros(0, dtype=np.int64)
    return np.concatenate(([0], np.flatnonzero(changes) + 1))


def _lengths(starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.diff(starts, append=size)
