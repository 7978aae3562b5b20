import pytest
import torch

from oneformer_model.network.norms import NORMS
from oneformer_model.network.pixel_decoder import DeformablePixelDecoder

CHANNELS = {"res2": 8, "res3": 16, "res4": 24, "res5": 32}
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
SIZES = {"res2": (16, 21), "res3": (8, 11), "res4": (4, 6), "res5": (2, 3)}


def decoder(**changes):
    options = {
        "channels": CHANNELS,
        "strides": STRIDES,
        "features": ("res3", "res4", "res5"),
        "encoder_features": ("res3", "res4", "res5"),
        "common_stride": 4,
        "dim": 32,
        "mask_dim": 24,
        "num_heads": 4,
        "num_layers": 1,
        "hidden": 64,
    }
    return DeformablePixelDecoder(**options | changes)


@pytest.fixture
def features():
    return {name: torch.randn(2, CHANNELS[name], *size) for name, size in SIZES.items()}


def test_outputs_have_the_sizes_of_the_features(features):
    pixels = decoder()(features)
    assert pixels.mask_features.shape == (2, 24, 16, 21)
    assert [tuple(level.shape) for level in pixels.levels] == [(2, 32, 2, 3), (2, 32, 4, 6), (2, 32, 8, 11)]


@pytest.mark.parametrize(("stride", "size"), [(4, (16, 21)), (8, (8, 11)), (16, (4, 6)), (32, (2, 3))])
def test_the_stride_of_the_masks_is_a_choice(features, stride, size):
    pixels = decoder(common_stride=stride)(features)
    assert pixels.mask_features.shape == (2, 24, *size)
    assert [level.shape[2:] for level in pixels.levels] == [(2, 3), (4, 6), (8, 11)]


def test_levels_that_the_encoder_leaves_out_come_from_the_pyramid(features):
    module = decoder(encoder_features=("res4", "res5"))
    assert list(module.laterals) == ["res3", "res2"]
    assert module(features).levels[2].shape == (2, 32, 8, 11)
    leap = decoder(features=("res2", "res4", "res5"), encoder_features=("res4", "res5"))
    assert list(leap.laterals) == ["res2"]  # res3 is neither named nor below the finest named
    assert [level.shape[2:] for level in leap(features).levels] == [(2, 3), (4, 6), (16, 21)]


def test_the_order_of_the_encoder_features_does_not_matter(features):
    results = []
    for order in (("res3", "res4", "res5"), ("res5", "res3", "res4")):
        torch.manual_seed(0)
        results.append(decoder(encoder_features=order)(features).mask_features)
    torch.testing.assert_close(*results)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=r"masks of stride 2 need .*; the pixel decoder has res5 \(stride 32\)"):
        decoder(common_stride=2)
    with pytest.raises(ValueError, match="5 levels for the queries are asked for; the pixel decoder has res5"):
        decoder(encoder_features=("res4", "res5"), num_output_levels=5)


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains(norm, features):
    module = decoder(norm=norm)
    pixels = module(features)
    loss = torch.stack([value.square().mean() for value in (pixels.mask_features, *pixels.levels)]).sum()
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_dropout_acts_in_training_only(features):
    module = decoder(dropout=0.3)
    with torch.no_grad():
        assert not torch.equal(module(features).mask_features, module(features).mask_features)
        module.eval()
        assert torch.equal(module(features).mask_features, module(features).mask_features)
