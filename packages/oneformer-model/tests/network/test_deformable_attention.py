import math

import pytest
import torch

from oneformer_model.network.deformable_attention import (
    DeformableAttention,
    reference_points,
    sample_bags,
    sample_grids,
)

SHAPES = ((1, 1), (2, 3), (5, 4))
TOKENS = sum(height * width for height, width in SHAPES)
BATCH, QUERIES, HEADS, POINTS, DIM = 2, 7, 3, 2, 5
SPREAD = 4.0  # pixels: about half of the points lie outside of the small maps


def arguments(dtype=torch.float32):
    count = HEADS * len(SHAPES) * POINTS
    value = torch.randn(BATCH, TOKENS, HEADS, DIM, dtype=dtype)
    x, y = (torch.randn(BATCH, QUERIES, count, dtype=dtype) * SPREAD for _ in range(2))
    weights = torch.rand(BATCH, QUERIES, count, dtype=dtype)
    return value, x, y, weights


def sample_by_loops(value, x, y, weights):
    """The definition: bilinear weights of the four neighbours, zero outside."""
    result = torch.zeros(BATCH, QUERIES, HEADS, DIM, dtype=value.dtype)
    starts = [sum(h * w for h, w in SHAPES[:level]) for level in range(len(SHAPES))]
    for b, q, m, level, p in (
        (b, q, m, level, p)
        for b in range(BATCH)
        for q in range(QUERIES)
        for m in range(HEADS)
        for level in range(len(SHAPES))
        for p in range(POINTS)
    ):
        height, width = SHAPES[level]
        place = (m * len(SHAPES) + level) * POINTS + p
        px, py = float(x[b, q, place]), float(y[b, q, place])
        for row in (math.floor(py), math.floor(py) + 1):
            for column in (math.floor(px), math.floor(px) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(py - row)) * (1 - abs(px - column)) * float(weights[b, q, place])
                    result[b, q, m] += share * value[b, starts[level] + row * width + column, m]
    return result.flatten(2)


@pytest.mark.parametrize("sampler", [sample_bags, sample_grids])
def test_a_sampler_computes_the_definition(sampler):
    value, x, y, weights = arguments()
    torch.testing.assert_close(
        sampler(value, SHAPES, (x, y), weights), sample_by_loops(value, x, y, weights), rtol=0, atol=1e-5
    )


def test_points_on_pixel_centres_still_move():
    """Fresh weights start there; the derivative is the step to the next pixel."""
    value = torch.tensor([0.0, 1.0, 4.0, 9.0]).view(1, 4, 1, 1)
    x = torch.tensor([[[1.0]]], requires_grad=True)
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    sample_bags(value, ((1, 4),), (x, zero), one).sum().backward()
    assert x.grad.item() == 3.0


def test_both_forms_have_the_same_gradients():
    value, x, y, weights = arguments()
    gradients = []
    for sampler in (sample_bags, sample_grids):
        leaves = [part.clone().requires_grad_() for part in (value, x, y, weights)]
        sampler(leaves[0], SHAPES, (leaves[1], leaves[2]), leaves[3]).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for bags, grids in zip(*gradients, strict=True):
        torch.testing.assert_close(bags, grids, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [sample_bags, sample_grids])
def test_gradients_are_the_derivatives(sampler):
    parts = [part.requires_grad_() for part in arguments(torch.float64)]
    assert torch.autograd.gradcheck(lambda v, x, y, w: sampler(v, SHAPES, (x, y), w), parts, fast_mode=True)


def test_reference_points_are_pixel_centres():
    x, y = reference_points(SHAPES, HEADS, POINTS, torch.device("cpu"))
    assert x.shape == (TOKENS, HEADS * len(SHAPES) * POINTS)
    last_level = slice(2 * POINTS, 3 * POINTS)  # of the first head
    own = torch.arange(20)
    torch.testing.assert_close(x[7:, last_level], (own % 4).float()[:, None].expand(-1, POINTS))
    torch.testing.assert_close(y[7:, last_level], (own // 4).float()[:, None].expand(-1, POINTS))
    torch.testing.assert_close(x[0, :POINTS], torch.zeros(POINTS))
    torch.testing.assert_close(x[0, last_level], torch.full((POINTS,), 1.5))  # the middle of 4 pixels


def test_fresh_heads_look_in_different_directions():
    attention = DeformableAttention(16, num_heads=4, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets.bias.detach().view(4, 2, 3, 2)
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(3):
        for level in range(2):
            torch.testing.assert_close(offsets[:, level, point], expected * (point + 1), rtol=0, atol=1e-6)


def test_precise_attention_is_float32_under_autocast():
    x, position = torch.randn(1, TOKENS, 16), torch.randn(TOKENS, 16)
    reference = reference_points(SHAPES, 4, 2, x.device)
    results = {}
    for precise in (False, True):
        torch.manual_seed(0)
        attention = DeformableAttention(16, num_heads=4, num_levels=3, num_points=2, precise=precise)
        with torch.autocast("cpu", torch.bfloat16):
            results[precise] = attention(x, position, SHAPES, reference)
    assert results[True].dtype == torch.float32
    assert results[False].dtype == torch.bfloat16
    torch.testing.assert_close(results[False].float(), results[True], rtol=0.1, atol=0.05)
