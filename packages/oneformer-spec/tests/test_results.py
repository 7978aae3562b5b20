"""Boxes are x, y, width, height of the pixels, for one mask and for all numbers of a map."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oneformer_spec.results import bounding_box, bounding_boxes


def test_a_box_is_x_y_width_height():
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 7:15] = True
    assert bounding_box(mask) == (7, 2, 8, 3)


def test_a_single_pixel_and_an_empty_mask():
    mask = np.zeros((3, 4), dtype=bool)
    assert bounding_box(mask) == (0, 0, 0, 0)
    mask[2, 3] = True
    assert bounding_box(mask) == (3, 2, 1, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 10_000))
def test_boxes_of_a_map_are_those_of_its_masks(height, width, count, seed):
    numbers = np.random.default_rng(seed).integers(0, count, size=(height, width))
    assert bounding_boxes(numbers, count + 1) == [bounding_box(numbers == number) for number in range(count + 1)]
