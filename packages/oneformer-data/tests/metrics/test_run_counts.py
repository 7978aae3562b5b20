from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneformer_data.metrics.run_counts import pair_counts, value_counts

HIGHEST = 256**3 - 1


def blocks(rng: np.random.Generator, values: np.ndarray, size: int) -> np.ndarray:
    """A map of runs, some of one pixel, with some of the values."""
    return np.repeat(rng.choice(values, size), rng.integers(1, 5, size))[:size].astype(np.int32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 3000))
def test_the_counts_are_those_of_sorting(seed, different, size):
    rng = np.random.default_rng(seed)
    first, second = (blocks(rng, rng.integers(0, HIGHEST + 1, different), size) for _ in range(2))
    values, pixels = np.unique(first, return_counts=True)
    assert value_counts(first) == dict(zip(values.tolist(), pixels.tolist(), strict=True))
    joint, pixels = np.unique(first.astype(np.int64) << 24 | second, return_counts=True)
    expected = (joint >> 24).tolist(), (joint & HIGHEST).tolist(), pixels.tolist()
    assert tuple(part.tolist() for part in pair_counts(first, second)) == expected


def test_a_map_without_two_equal_pixels_is_counted_right():
    ids = np.random.default_rng(0).permutation(20_000).astype(np.int32)
    assert value_counts(ids) == dict.fromkeys(range(20_000), 1)
    first, second, pixels = pair_counts(ids, ids[::-1].copy())
    assert first.tolist() == list(range(20_000))
    assert (ids[::-1][ids.argsort()] == second).all()
    assert (pixels == 1).all()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1, 1), (2, 3, 4)])
def test_maps_of_any_shape_are_counted(shape):
    ids = np.full(shape, HIGHEST, dtype=np.int32)
    assert value_counts(ids) == ({HIGHEST: ids.size} if ids.size else {})
    first, second, pixels = pair_counts(ids, np.zeros_like(ids))
    assert (first.tolist(), second.tolist(), pixels.tolist()) == (
        ([HIGHEST], [0], [ids.size]) if ids.size else ([], [], [])
    )


def test_void_alone_is_a_value():
    assert value_counts(np.zeros((4, 5), dtype=np.int32)) == {0: 20}
