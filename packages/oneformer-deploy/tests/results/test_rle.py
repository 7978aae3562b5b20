from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from oneformer_deploy.results.rle import decode, encode
from oneformer_spec.results import bounding_box

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def test_the_encoding_of_a_mask_worked_out_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)  # down the columns: 0 0, 1 0, 1 1
    assert encode(mask) == {"size": [2, 3], "counts": [2, 1, 1, 2]}


def test_a_mask_that_begins_with_ones_has_an_empty_first_run():
    assert encode(np.ones((2, 2), dtype=bool)) == {"size": [2, 2], "counts": [0, 4]}
    assert encode(np.zeros((2, 2), dtype=bool)) == {"size": [2, 2], "counts": [4]}


@given(masks)
def test_decoding_gives_the_mask_back(mask):
    rle = encode(mask)
    np.testing.assert_array_equal(decode(rle), mask)
    assert sum(rle["counts"]) == mask.size
    assert all(count > 0 for count in rle["counts"][1:])


@given(masks)
def test_the_box_of_a_mask_changes_no_count(mask):
    assert encode(mask, bounding_box(mask)) == encode(mask)
