"""Pictures are scaled, padded and normalised as planned, and masks find back to where their pixels were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneformer_spec.segmentation.frame import FitInto, Frame, ShortestEdge, normalise, plan, prepare, undo

EDGES = st.integers(1, 5000)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.mark.parametrize(
    ("original", "resized"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((400, 1000), (533, 1333)),  # 800 x 2000 would pass the longest edge
        ((800, 800), (800, 800)),
        ((3000, 4000), (800, 1067)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_the_shortest_edge_rules_until_the_longest_passes_its_limit(original, resized):
    assert ShortestEdge(800, 1333).scaled(original) == resized


@given(EDGES, EDGES, st.integers(32, 2000), st.integers(32, 2000))
def test_a_fitted_picture_fills_one_edge_and_passes_none(height, width, box_height, box_width):
    scaled = FitInto(box_height, box_width).scaled((height, width))
    assert 1 <= scaled[0] <= box_height
    assert 1 <= scaled[1] <= box_width
    assert scaled[0] == box_height or scaled[1] == box_width


@given(EDGES, EDGES, st.integers(1, 64))
def test_padding_is_the_least_that_divides(height, width, divisibility):
    frame = plan((height, width), ShortestEdge(800, 1333), divisibility=divisibility)
    for padded, resized in zip(frame.padded, frame.resized, strict=True):
        assert padded % divisibility == 0
        assert 0 <= padded - resized < divisibility


def test_a_fixed_input_wins_over_the_rule():
    frame = plan((300, 600), ShortestEdge(800, 1333), divisibility=32, fixed=(512, 512))
    assert frame == Frame((300, 600), (256, 512), (512, 512))


def test_normalise_is_per_channel():
    image = np.full((2, 3, 3), 128, dtype=np.uint8)
    expected = [(128 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    planes = normalise(image, MEAN, STD)
    assert (planes.shape, planes.dtype) == ((3, 2, 3), np.float32)
    np.testing.assert_allclose(planes[:, 1, 2], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalise_pads_with_the_mean_colour(dtype):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(dtype)
    planes = normalise(image, MEAN, STD, padded=(7, 9))
    assert planes.dtype == np.float32
    assert np.array_equal(planes, np.pad(normalise(image, MEAN, STD), ((0, 0), (0, 3), (0, 3))))


def test_normalise_leaves_its_input_alone():
    planes = np.full((3, 4, 5), 100, dtype=np.float32)
    normalise(np.moveaxis(planes, 0, -1), MEAN, STD)
    assert (planes == 100).all()


def test_prepare_pads_right_and_bottom_with_the_mean_colour():
    image = np.random.default_rng(0).integers(0, 256, size=(20, 30, 3), dtype=np.uint8)
    before = image.copy()
    frame = plan((20, 30), ShortestEdge(20, 100), divisibility=16)
    planes = prepare(image, frame, mean=MEAN, std=STD)
    assert (planes.shape, planes.dtype) == ((3, 32, 32), np.float32)
    np.testing.assert_array_equal(planes[:, :20, :30], normalise(image, MEAN, STD))
    assert not planes[:, 20:].any()
    assert not planes[:, :, 30:].any()
    np.testing.assert_array_equal(image, before)


def test_prepare_scales_a_flat_picture_to_a_flat_picture():
    image = np.full((40, 60, 3), (10, 20, 30), dtype=np.uint8)
    frame = plan((40, 60), FitInto(90, 90), divisibility=1)
    planes = prepare(image, frame, mean=(0, 0, 0), std=(1, 1, 1))
    assert frame.resized == (60, 90)
    np.testing.assert_allclose(
        planes, np.broadcast_to(np.float32([10, 20, 30])[:, None, None], planes.shape), rtol=1e-5
    )


def test_prepare_is_pillows_resize_within_its_rounding():
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(1).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)
    frame = plan((50, 70), ShortestEdge(33, 200), divisibility=1)
    planes = prepare(image, frame, mean=(0, 0, 0), std=(1, 1, 1))
    size = frame.resized[::-1]
    expected = np.asarray(image_module.fromarray(image).resize(size, image_module.Resampling.BILINEAR))
    assert np.abs(np.moveaxis(planes, 0, -1) - expected).max() <= 1.01  # Pillow rounds twice


def test_undo_without_scaling_or_padding_is_the_fourfold_enlargement():
    rows, columns = undo(Frame((8, 12), (8, 12), (8, 12)), (2, 3))
    assert (rows.shape, columns.shape) == ((8, 2), (12, 3))
    np.testing.assert_allclose(rows[:, 0], [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0], atol=1e-7)


def test_undo_is_torchs_interpolate_cut_and_interpolate():
    torch = pytest.importorskip("torch")
    frame = plan((333, 500), ShortestEdge(200, 290), divisibility=32)
    assert frame.padded != frame.resized
    size = (frame.padded[0] // 4, frame.padded[1] // 4)
    mask = np.random.default_rng(2).normal(size=size).astype(np.float32)

    def interpolate(tensor, target):
        return torch.nn.functional.interpolate(tensor, size=target, mode="bilinear", align_corners=False)

    padded = interpolate(torch.from_numpy(mask)[None, None], frame.padded)
    expected = interpolate(padded[..., : frame.resized[0], : frame.resized[1]], frame.original)[0, 0]
    rows, columns = undo(frame, size)
    np.testing.assert_allclose(rows @ mask @ columns.T, expected.numpy(), atol=1e-4)  # its coordinates are single
