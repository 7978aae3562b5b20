import pytest
import timm
import torch

from oneformer_model.backbones.swin import DropPath, SwinTransformer
from oneformer_model.backbones.windows import join_windows, shift_mask, split_windows
from oneformer_model.testing import check_backbone
from oneformer_spec.plugins.builtins import oneformer_backbones
from oneformer_spec.schema import SwinOptions

TINY = {"embed_dim": 16, "depths": (2, 2, 1, 1), "num_heads": (2, 2, 4, 4), "window_size": 4, "drop_path_rate": 0.0}


def test_swin_keeps_the_contract_of_backbones():
    declaration = next(backbone for backbone in oneformer_backbones() if backbone.name == "swin")
    check_backbone(declaration, **TINY)


def test_features_equal_timms_where_windows_fit():
    ours = SwinTransformer(**TINY).eval()
    theirs = timm.models.swin_transformer.SwinTransformer(
        img_size=128,
        window_size=4,
        embed_dim=16,
        depths=TINY["depths"],
        num_heads=TINY["num_heads"],
        num_classes=0,
        strict_img_size=True,
    ).eval()
    rules = [
        ("patch_embed.proj", "patch_embedding.projection"),
        ("patch_embed.norm", "patch_embedding.norm"),
        ("relative_position_bias_table", "relative_position_bias"),
        ("attn.proj", "attention.projection"),
        ("attn.", "attention."),
        ("mlp.fc", "mlp.linear"),
        ("layers.", "stages."),
    ]
    state = {}
    for name, value in theirs.state_dict().items():
        for old, new in rules:
            name = name.replace(old, new)
        if name.startswith("stages") and ".downsample." in name:  # there at the start of a stage, here at the end
            stage, rest = name.removeprefix("stages.").split(".", 1)
            name = f"stages.{int(stage) - 1}.{rest}"
        state[name] = value
    missing = ours.load_state_dict(state, strict=False).missing_keys
    assert all(name.startswith("norms.") for name in missing)
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        x = theirs.patch_embed(image)
        for index, stage in enumerate(theirs.layers):
            x = stage(x)
            expected = torch.nn.functional.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2)
            torch.testing.assert_close(ours(image)[f"res{index + 2}"], expected, rtol=0, atol=1e-4)


def test_windows_are_cut_and_joined_without_change():
    x = torch.randn(2, 8, 12, 3)
    windows = split_windows(x, 4)
    assert windows.shape == (2, 6, 16, 3)
    torch.testing.assert_close(windows[0, 1], x[0, :4, 4:8].reshape(16, 3))
    torch.testing.assert_close(join_windows(windows.flatten(0, 1), 4, 8, 12), x)


def test_rolled_windows_hide_what_the_roll_joined():
    height, width, window, shift = 8, 8, 4, 2
    mask = shift_mask(height, width, window, shift, torch.device("cpu"))
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((ys, xs), dim=-1)[None].roll((-shift, -shift), (1, 2))
    place = split_windows(places, window)[0]  # original row and column of every token of every window
    near = (place[:, :, None] - place[:, None]).abs().amax(dim=-1) < window  # neighbours before the roll
    assert torch.equal(mask[:, 0] == 0, near)


def test_maps_are_padded_before_they_are_rolled():
    """A map that windows do not fill equals the same map filled with zeros beforehand."""
    block = SwinTransformer(**TINY).eval().stages[0].blocks[1]
    assert block.shift == 2
    x = torch.randn(1, 6, 9, 16)
    filled = torch.nn.functional.pad(x, (0, 0, 0, 3, 0, 2))
    with torch.no_grad():
        torch.testing.assert_close(block._attend(x), block._attend(filled)[:, :6, :9])


@pytest.mark.parametrize(
    ("change", "parameters_change"),
    [
        ({"ape": True, "pretrain_img_size": 32}, True),
        ({"qkv_bias": False}, True),
        ({"qk_scale": 2.0}, False),
        ({"patch_norm": False}, True),
        ({"mlp_ratio": 2.0}, True),
        ({"window_size": 2}, True),
        ({"patch_size": 2}, True),
    ],
)
def test_an_option_acts(change, parameters_change):
    image = torch.randn(1, 3, 48, 40)
    results = []
    for options in (TINY, TINY | change):
        torch.manual_seed(0)
        backbone = SwinTransformer(**options).eval()
        with torch.inference_mode():
            results.append((backbone(image)["res4"], {k: v.shape for k, v in backbone.state_dict().items()}))
    assert (results[0][1] != results[1][1]) == parameters_change
    same_size = results[0][0].shape == results[1][0].shape
    assert same_size == ("patch_size" not in change)
    assert not same_size or not torch.allclose(results[0][0], results[1][0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", ["drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_a_drop_rate_acts_in_training_only(rate):
    backbone = SwinTransformer(**TINY | {rate: 0.5})
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        backbone.train()
        assert not torch.equal(backbone(image)["res5"], backbone(image)["res5"])
        backbone.eval()
        assert torch.equal(backbone(image)["res5"], backbone(image)["res5"])


def test_drop_path_drops_samples_and_keeps_the_mean():
    x = torch.ones(4000, 2, 2)
    y = DropPath(0.25)(x)
    assert sorted(y.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(y[:, 0, 0], y[:, 1, 1])
    assert y.mean() == pytest.approx(1.0, abs=0.05)


def test_recomputing_runs_the_blocks_again():
    backbone = SwinTransformer(**TINY, use_checkpoint=True).train()
    calls = []
    backbone.stages[0].blocks[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    backbone(torch.randn(1, 3, 32, 32))["res5"].sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("tiny", "swin_tiny_patch4_window7_224"),
        ("small", "swin_small_patch4_window7_224"),
        ("base", "swin_base_patch4_window12_384"),
        ("large", "swin_large_patch4_window12_384"),
    ],
)
def test_a_preset_has_the_tensors_of_the_published_model(preset, name):
    with torch.device("meta"):
        ours, theirs = SwinTransformer(**SwinOptions.PRESETS[preset]), timm.create_model(name, num_classes=0)
    sizes = [
        sorted(tuple(value.shape) for key, value in model.named_parameters() if not key.startswith("norm"))
        for model in (ours, theirs)
    ]
    assert sizes[0] == sizes[1]


def test_only_what_is_handed_out_is_built():
    backbone = SwinTransformer(**TINY, out_features=("res2", "res3"), out_indices=(0, 1))
    assert list(backbone(torch.randn(1, 3, 32, 32))) == ["res2", "res3"]
    assert backbone.channels == {"res2": 16, "res3": 32}
    assert backbone.strides == {"res2": 4, "res3": 8}
    assert len(backbone.stages) == 2


def test_outputs_that_disagree_are_refused():
    with pytest.raises(ValueError, match="disagree"):
        SwinTransformer(**TINY, out_features=("res3",), out_indices=(0,))
