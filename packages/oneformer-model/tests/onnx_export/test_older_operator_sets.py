import pytest
import torch
import torch.nn.functional as F

from oneformer_model.network.deformable_attention import sample_grids
from oneformer_model.onnx_export.older_operator_sets import recordable, sample_rows

SHAPES = ((1, 1), (2, 3), (5, 4))
BATCH, QUERIES, HEADS, POINTS, DIM = 2, 7, 3, 2, 5
SPREAD = 4.0  # pixels: about half of the points lie outside of the small maps


def test_gathered_neighbours_are_what_grids_sample():
    count = HEADS * len(SHAPES) * POINTS
    value = torch.randn(BATCH, sum(height * width for height, width in SHAPES), HEADS, DIM)
    x, y = (torch.randn(BATCH, QUERIES, count) * SPREAD for _ in range(2))
    weights = torch.rand(BATCH, QUERIES, count)
    expected = sample_grids(value, SHAPES, (x, y), weights)
    torch.testing.assert_close(sample_rows(value, SHAPES, (x, y), weights), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [None, torch.rand(2, 1, 5, 6) > 0.3, torch.randn(2, 3, 5, 6)])
def test_attention_in_steps_is_torchs(mask):
    query, key, value = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    with recordable(sizes_are_open=False):
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sizes_are_open", [False, True])
def test_other_forms_compute_what_torchs_do(sizes_are_open):
    x = torch.randn(2, 6, 5).transpose(1, 2)
    sizes = [torch.tensor(1), torch.tensor(4)]
    with recordable(sizes_are_open=sizes_are_open):
        assert tuple(x.shape) == tuple(x.size()) == (2, 5, 6)
        assert x.size(-1) == 6
        assert x.unflatten(-1, (2, -1)).shape == (2, 5, 2, 3)
        parts = x.split(sizes, dim=1), x.split([1, 4], dim=1)
    for part, other in zip(*parts, strict=True):
        assert torch.equal(part, other)


def test_torch_is_itself_afterwards_also_after_an_error():
    with pytest.raises(RuntimeError, match="out"), recordable(sizes_are_open=False):
        raise RuntimeError("out")
    assert type(torch.zeros(2, 3).shape) is torch.Size
