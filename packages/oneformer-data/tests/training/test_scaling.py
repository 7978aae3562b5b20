from __future__ import annotations

import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oneformer_data.training import scaling

edges = st.integers(1, 70)


@settings(max_examples=100, deadline=None)
@given(edges, edges, edges, edges, st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(0, 2**32 - 1))
def test_any_part_is_scaled_as_pillow_scales_it(height, width, tall, wide, shares, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    left, right = sorted(share * width for share in shares[:2])
    top, bottom = sorted(share * height for share in shares[2:])
    if right - left < 0.01 or bottom - top < 0.01:
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    box = left, top, right, bottom
    found = scaling.scaled(image, (tall, wide), box)
    expected = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.BILINEAR, box=box))
    assert found.shape == (tall, wide, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_pillow_stands_in_where_the_fast_library_is_missing(monkeypatch):
    imported = builtins.__import__

    def importer(name, *arguments, **keywords):
        if name == "cykooz_resizer":
            raise ImportError(name)
        return imported(name, *arguments, **keywords)

    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    scaling._fast.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", importer)
        found = scaling.scaled(image, (20, 50), (1.5, 2.5, 33.0, 29.0))
    scaling._fast.cache_clear()
    expected = Image.fromarray(image).resize((50, 20), Image.Resampling.BILINEAR, box=(1.5, 2.5, 33.0, 29.0))
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("size", [(1, 1), (640, 3)])
def test_a_mirrored_picture_is_scaled_too(size):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)[:, ::-1]
    expected = scaling.scaled(np.ascontiguousarray(image), size, (0, 0, 40, 30))
    assert np.array_equal(scaling.scaled(image, size, (0, 0, 40, 30)), expected)
