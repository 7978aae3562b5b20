"""Where mask losses look."""

from functools import partial

import pytest
import torch

from oneformer_train.loss.points import sample, sample_features, uncertain_points, uniform_points


def test_pixel_centres_give_the_pixels() -> None:
    planes = torch.arange(12.0).reshape(1, 1, 3, 4)
    x, y = (torch.arange(4) + 0.5) / 4, (torch.arange(3) + 0.5) / 3
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(1, 12, 2)
    torch.testing.assert_close(sample(planes, points)[0, 0], torch.arange(12.0))


def test_sampling_commutes_with_the_mask_product() -> None:
    """Matching samples the features once instead of every query's mask."""
    torch.manual_seed(0)
    features, embeddings, points = torch.randn(2, 8, 9, 7), torch.randn(2, 5, 8), torch.rand(2, 33, 2)
    masks = torch.einsum("bqd,bdhw->bqhw", embeddings, features)
    torch.testing.assert_close(embeddings @ sample(features, points), sample(masks, points), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_features_are_sampled_like_masks(layout: torch.memory_format) -> None:
    """Also where a point's neighbours lie outside the map and count as 0."""
    torch.manual_seed(0)
    features, points = torch.randn(2, 8, 9, 7).contiguous(memory_format=layout), torch.rand(2, 333, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [0.0, 0.999], [0.999, 0.0], [0.999, 0.999]])
    torch.testing.assert_close(sample_features(features, points).transpose(1, 2), sample(features, points))


def test_most_points_lie_where_the_mask_is_undecided() -> None:
    torch.manual_seed(0)
    logits = torch.full((2, 32, 32), 10.0)
    logits[:, :, 14:18] = 0.0  # the undecided strip: 4 of 32 columns, around x = 0.5
    points = uncertain_points(
        logits, 400, oversample_ratio=8.0, importance_ratio=0.75, draw=partial(uniform_points(logits.device), [1, 1])
    )
    assert points.shape == (2, 400, 2)
    near = ((points[..., 0] - 0.5).abs() < 0.07).float().mean(dim=1)
    assert (near > 0.7).all()  # uniform points: 0.14


def test_injected_points_are_used_as_they_are() -> None:
    fixed = torch.rand(1, 10, 2)
    points = uncertain_points(
        torch.randn(1, 8, 8), 10, oversample_ratio=1.0, importance_ratio=0.0, draw=lambda count: fixed[:, :count]
    )
    torch.testing.assert_close(points, fixed)
