"""The formulas without HSV against Python's conversion to HSV and back."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneformer_data.sample import Sample
from oneformer_data.training import colors
from oneformer_data.training.colors import LARGEST_TURN, recolor

# Grays, pure and mixed colours, pairs of equal bands, and neighbours of each: where the sextants meet.
LEVELS = (0, 1, 2, 60, 127, 128, 129, 254, 255)
CORNERS = np.array(np.meshgrid(LEVELS, LEVELS, LEVELS), dtype=np.float32).reshape(3, -1)


def through_hsv(bands: np.ndarray, saturation: float, turn: float) -> np.ndarray:
    found = []
    for pixel in bands.T.astype(float) / 255:
        hue, chroma, value = colorsys.rgb_to_hsv(*pixel)
        found.append(colorsys.hsv_to_rgb((hue + turn / 360) % 1, min(chroma * saturation, 1), value))
    return np.array(found).T * 255


@pytest.mark.parametrize("saturation", [0.0, 0.5, 1.0, 1.2, 1.5])
@pytest.mark.parametrize("turn", [0.0, 0.3, -17.0, 36.0, LARGEST_TURN, -LARGEST_TURN])
def test_colours_are_those_that_hsv_gives(saturation, turn):
    found = CORNERS.copy()
    recolor(found, saturation=saturation, turn=turn)
    assert np.abs(found - through_hsv(CORNERS, saturation, turn)).max() < 0.005  # of 255 levels


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 1.5), st.floats(-36, 36))
def test_real_numbers_are_recoloured_as_hsv_does(seed, saturation, turn):
    bands = np.random.default_rng(seed).uniform(0, 255, (3, 50)).astype(np.float32)
    found = bands.copy()
    recolor(found, saturation=saturation, turn=turn)
    assert np.abs(found - through_hsv(bands, saturation, turn)).max() < 0.05
    assert found.min() > -0.001
    assert found.max() < 255.001


def test_the_jitter_is_its_five_steps_in_real_numbers_rounded_once():
    """Both orders of contrast, on a picture of more than one block and no whole number of them."""
    assert colors.HUE_DEGREES < LARGEST_TURN
    image = np.random.default_rng(1).integers(0, 256, (150, 140, 3), dtype=np.uint8)
    sample = Sample("a", 1, image, np.zeros((1, 150, 140), np.int32), ())
    places = np.s_[::37, ::41]
    seen = set()
    for seed in range(12):
        found = colors.color(sample, np.random.default_rng(seed), probability=1.0).image
        rng = np.random.default_rng(seed)
        rng.random()
        brightness = rng.uniform(-32, 32) * (rng.random() < 0.5)
        contrast, draw = rng.uniform(0.5, 1.5), rng.random()
        contrast = contrast if draw < 0.5 else 1.0
        first = rng.random() < 0.5
        saturation, draw = rng.uniform(0.5, 1.5), rng.random()
        saturation = saturation if draw < 0.5 else 1.0
        turn = rng.uniform(-36, 36) * (rng.random() < 0.5)
        bands = np.clip(image[places].reshape(-1, 3).T + brightness, 0, 255)
        if first:
            bands = np.clip(bands * contrast, 0, 255)
        bands = through_hsv(bands, saturation, turn)
        if not first:
            bands = np.clip(bands * contrast, 0, 255)
        assert np.abs(found[places].reshape(-1, 3).T - bands).max() < 0.51
        seen.add((brightness != 0, contrast != 1, first, saturation != 1, turn != 0))
    assert len(seen) > 6
