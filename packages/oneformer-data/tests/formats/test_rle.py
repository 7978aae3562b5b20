"""COCO's masks: what is drawn, and what is refused before anything is drawn."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from oneformer_data.formats.rle import compressed, draw, encoded, read_segmentation, run_lengths, segmentation_problem

SQUARE = [1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]


def random_mask(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((height, width)) < rng.choice([0.0, 0.05, 0.5, 1.0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_compressed_runs_are_those_of_pycocotools(seed, height, width):
    mask = random_mask(seed, height, width)
    text = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    np.testing.assert_array_equal(draw(text, (height, width)), mask)
    assert compressed(run_lengths(text).tolist()) == text


def test_long_runs_and_differences():
    counts = [0, 1, 70_000, 3, 2_000_000, 1, 5, 40, 3, 1_000_000]
    text = compressed(counts)
    assert run_lengths(text).tolist() == counts
    lists = coco.frPyObjects({"size": [sum(counts), 1], "counts": counts}, sum(counts), 1)
    assert lists["counts"].decode() == text


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_polygons_are_filled_as_pycocotools_fills_them():
    other = [4.5, 2.0, 8.0, 2.5, 6.0, 7.0]
    mask = draw(read_segmentation([SQUARE, other]), (8, 10))
    expected = coco.decode(coco.merge(coco.frPyObjects([SQUARE, other], 8, 10)))
    np.testing.assert_array_equal(mask, expected)
    assert mask.sum() > 20


def test_many_corners_are_no_long_outline():
    assert segmentation_problem([[1, 2, 3, 4] * 200_000], (8, 10)) is None


def test_encoded_masks_are_those_that_are_drawn():
    for segmentation in (read_segmentation([SQUARE]), compressed([3, 7, 70])):
        np.testing.assert_array_equal(draw(encoded(segmentation, (8, 10)), (8, 10)), draw(segmentation, (8, 10)))


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "neither a list of polygons nor run lengths"),
        ([], "is an empty list"),
        ([[1, 2, 3, 4]], "polygon 0 has 4 numbers"),
        ([SQUARE, [1.0] * 7], "polygon 1 has 7 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "the coordinate nan"),
        ([[1, 2, 3, 4, 5, "6"]], "the coordinate '6'"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside the image of 10x8 pixels"),
        ([[1, 2, 3, 4, 5, 10**400]], "far outside the image of 10x8 pixels"),
        ([[-16, 0, 16, 0] * 200_000], "outlines of 12800000 pixels, expected at most 10000000"),
        ([[-16, 0, 16, 0] * 100_000] * 2, "outlines of 12800000 pixels, expected at most 10000000"),
        ({"size": [10, 8], "counts": [80]}, "are of size [10, 8], the image is [8, 10]"),
        ({"size": [8, 10], "counts": [10, 10**12]}, "cover 1000000000010 pixels, the image has 80"),
        ({"size": [8, 10], "counts": [100, -20]}, "whole numbers from 0 on"),
        ({"size": [8, 10], "counts": 3}, "neither text nor a list"),
    ],
)
def test_what_is_refused(segmentation, problem):
    assert problem in str(segmentation_problem(segmentation, (8, 10)))


@pytest.mark.parametrize("text", ["PP", "zz\x7f", "\xff", "o" * 40, "\x10", compressed([40]), compressed([0, 10**9])])
def test_text_that_lies_is_refused_without_drawing(text):
    for read in (draw, encoded):
        with pytest.raises(ValueError, match=r"damaged|do not end with the picture"):
            read(text, (8, 10))


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=12))
def test_no_text_does_more_than_raise(text):
    with contextlib.suppress(ValueError):
        assert draw(text, (8, 10)).shape == (8, 10)
