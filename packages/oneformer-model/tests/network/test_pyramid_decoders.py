"""MaskFormer's pixel decoders: the pyramid by its formula, its encoder, and what both promise to the query decoder."""

import pytest
import torch
import torch.nn.functional as F

from oneformer_model.network.norms import NORMS
from oneformer_model.network.positions import sine_code
from oneformer_model.network.pyramid_decoders import MapEncoder, PyramidPixelDecoder

CHANNELS = {"res2": 8, "res3": 16, "res4": 24, "res5": 32}
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
SIZES = {"res2": (16, 21), "res3": (8, 11), "res4": (4, 6), "res5": (2, 3)}
KINDS = ("pyramid", "encoded pyramid")


def encoder(**changes):
    return MapEncoder(32, **{"dim": 32, "num_heads": 4, "hidden": 48, "num_layers": 2} | changes)


def decoder(kind="pyramid", dropout=0.0, **changes):
    options = {
        "channels": CHANNELS,
        "strides": STRIDES,
        "features": ("res3", "res4", "res5"),
        "common_stride": 4,
        "dim": 32,
        "mask_dim": 24,
        "encoder": encoder(dropout=dropout) if kind == "encoded pyramid" else None,
    }
    return PyramidPixelDecoder(**options | changes)


@pytest.fixture
def features():
    return {name: torch.randn(2, CHANNELS[name], *size) for name, size in SIZES.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_have_the_sizes_of_the_features(kind, features):
    pixels = decoder(kind)(features)
    assert pixels.mask_features.shape == (2, 24, 16, 21)
    assert [tuple(level.shape) for level in pixels.levels] == [(2, 32, 2, 3), (2, 32, 4, 6), (2, 32, 8, 11)]


@pytest.mark.parametrize(("stride", "size"), [(4, (16, 21)), (8, (8, 11)), (16, (4, 6)), (32, (2, 3))])
def test_the_stride_of_the_masks_is_a_choice(features, stride, size):
    pixels = decoder(common_stride=stride)(features)
    assert pixels.mask_features.shape == (2, 24, *size)
    assert [level.shape[2:] for level in pixels.levels] == [(2, 3), (4, 6), (8, 11)]


def test_the_named_levels_make_the_pyramid(features):
    assert list(decoder(features=("res5",)).steps) == ["res4", "res3", "res2"]
    assert list(decoder(features=("res2", "res4", "res5")).steps) == ["res4", "res2"]
    without_the_coarsest = decoder(features=("res3", "res4"))
    del features["res5"]
    assert [level.shape[2:] for level in without_the_coarsest(features).levels] == [(4, 6), (8, 11), (16, 21)]
    assert list(decoder(common_stride=8).steps) == ["res4", "res3"]  # nothing finer than the masks


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=r"masks of stride 2 need .*; the pixel decoder has res5 \(stride 32\)"):
        decoder(common_stride=2)
    with pytest.raises(ValueError, match="4 levels for the queries are asked for; the pixel decoder has res5"):
        decoder(features=("res2", "res4", "res5"), num_output_levels=4)


def test_the_pyramid_is_maskformers(features):
    """Each map is relu(norm(conv3x3(norm(conv1x1(level)) + nearest(coarser)))), the coarsest without the sum."""
    module = decoder()
    state = module.state_dict()

    def fused(x, name, padding):
        x = F.conv2d(x, state[f"{name}.conv.weight"], padding=padding)
        return F.group_norm(x, 32, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])

    maps = [F.relu(fused(features["res5"], "output", 1))]
    for name in ("res4", "res3", "res2"):
        height, width = SIZES[name]
        rows, columns = torch.arange(height), torch.arange(width)
        coarser = maps[-1]
        rows = rows * coarser.shape[2] // height
        columns = columns * coarser.shape[3] // width
        nearest = coarser[:, :, rows][:, :, :, columns]
        maps.append(
            F.relu(fused(fused(features[name], f"steps.{name}.lateral", 0) + nearest, f"steps.{name}.output", 1))
        )
    masks = F.conv2d(maps[-1], state["mask_projection.weight"], state["mask_projection.bias"], padding=1)
    pixels = module(features)
    torch.testing.assert_close(pixels.mask_features, masks)
    for found, expected in zip(pixels.levels, maps, strict=False):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_encoder_is_detrs(pre_norm):
    """torch's own encoder layer, with the position code in queries and keys as DETR adds it, computes the same."""
    ours = encoder(num_layers=1, pre_norm=pre_norm).eval()
    layer, x = ours.layers[0], torch.randn(2, 32, 4, 6)
    tokens = ours.projection(x).flatten(2).transpose(1, 2)
    code = sine_code(4, 6, 32, x.device)
    attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    own = layer.self_attention.attention
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        attention.out_proj.weight.copy_(own.output.weight)
    norm, norm2 = layer.self_attention.norm, layer.feed_forward.norm
    inner = norm(tokens) if pre_norm else tokens
    tokens = tokens + attention(inner + code, inner + code, inner)[0]
    tokens = tokens if pre_norm else norm(tokens)
    hidden = F.relu(layer.feed_forward.linear1(norm2(tokens) if pre_norm else tokens))
    tokens = tokens + layer.feed_forward.linear2(hidden)
    expected = ours.norm(tokens) if pre_norm else norm2(tokens)
    torch.testing.assert_close(ours(x), expected.transpose(1, 2).unflatten(2, (4, 6)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains(kind, norm, features):
    module = decoder(kind, norm=norm)
    pixels = module(features)
    loss = torch.stack([value.square().mean() for value in (pixels.mask_features, *pixels.levels)]).sum()
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_activations_give_the_same_gradients(kind, features):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        module = decoder(kind, dropout=0.2)
        module.use_checkpoint = recompute
        pixels = module(features)
        pixels.mask_features.square().mean().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_dropout_acts_in_training_only(features):
    module = decoder("encoded pyramid", dropout=0.3)
    with torch.no_grad():
        assert not torch.equal(module(features).mask_features, module(features).mask_features)
        module.eval()
        assert torch.equal(module(features).mask_features, module(features).mask_features)
