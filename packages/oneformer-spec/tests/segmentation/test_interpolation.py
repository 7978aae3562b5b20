"""Resizing by matrices equals what Pillow and torch do, and cutting the matrices into bands changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneformer_spec.segmentation.interpolation import bands, resize, weights

LENGTHS = st.integers(1, 90)


def test_enlarging_by_two():
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_array_equal(weights(2, 4, antialias=False), np.float32(expected))
    np.testing.assert_array_equal(weights(2, 4, antialias=True), np.float32(expected))


def test_halving_with_antialias_uses_four_pixels():
    """Pixels lie 0.5 and 1.5 from the centre of a triangle that reaches 2: weights 3 : 1."""
    inner = np.float32([1, 3, 3, 1]) / 8
    np.testing.assert_allclose(weights(8, 4, antialias=True)[1], [0, *inner, 0, 0, 0], atol=1e-7)


def test_halving_without_antialias_uses_two_pixels():
    np.testing.assert_array_equal(weights(4, 2, antialias=False), np.float32([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]))


@pytest.mark.parametrize("antialias", [False, True])
def test_the_same_size_changes_nothing(antialias):
    np.testing.assert_array_equal(weights(5, 5, antialias=antialias), np.eye(5, dtype=np.float32))


@settings(deadline=None, max_examples=60)
@given(LENGTHS, LENGTHS, st.booleans())
def test_weights_are_shares(source, target, antialias):
    matrix = weights(source, target, antialias=antialias)
    assert matrix.shape == (target, source)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_weights_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        weights(3, 4, antialias=True)[0, 0] = 2


@settings(deadline=None, max_examples=60)
@given(LENGTHS, LENGTHS, st.booleans(), st.integers(1, 40))
def test_bands_hold_the_whole_matrix(source, target, antialias, block):
    matrix = weights(source, target, antialias=antialias)
    rebuilt = np.zeros_like(matrix)
    for band in bands(matrix, block):
        rebuilt[band.target, band.source] += band.matrix
    np.testing.assert_array_equal(rebuilt, matrix)


def test_bands_are_narrow():
    assert max(band.matrix.shape[1] for band in bands(weights(1000, 4000, antialias=False), 64)) == 64 // 4 + 2


SIZES = pytest.mark.parametrize("size", [(17, 23), (60, 80), (7, 150), (150, 9), (1, 1), (45, 77)])


@SIZES
def test_resize_is_pillows(size):
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).uniform(0, 255, size=(45, 77)).astype(np.float32)
    expected = image_module.fromarray(image).resize(size[::-1], image_module.Resampling.BILINEAR)
    np.testing.assert_allclose(resize(image, size), np.asarray(expected), atol=1e-3)


@SIZES
@pytest.mark.parametrize("antialias", [False, True])
def test_weights_are_torchs(size, antialias):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(1).normal(size=(45, 77)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], size=size, mode="bilinear", antialias=antialias, align_corners=False
    )[0, 0]
    rows, columns = weights(45, size[0], antialias=antialias), weights(77, size[1], antialias=antialias)
    np.testing.assert_allclose(rows @ image @ columns.T, expected.numpy(), atol=2e-5)


def test_resize_takes_any_leading_axes():
    stack = np.random.default_rng(2).normal(size=(2, 3, 20, 30)).astype(np.float32)
    result = resize(stack, (50, 11))
    assert (result.shape, result.dtype) == ((2, 3, 50, 11), np.float32)
    np.testing.assert_array_equal(result[1, 2], resize(stack[1, 2], (50, 11)))
