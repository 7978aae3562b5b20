import os
import pickle
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

from oneformer_model.backbones import timm_backbones
from oneformer_model.backbones.pyramid import WIDTH, SimpleFeaturePyramid
from oneformer_model.backbones.timm_backbones import TimmBackbone, efficientvit
from oneformer_model.build import build
from oneformer_model.weights.pretrained import load_backbone
from oneformer_spec.errors import CheckpointError, SpecError
from oneformer_spec.schema import BackboneSection, TimmOptions

PLAIN = {"depth": 2, "embed_dim": 24, "num_heads": 2}
SMALL = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}  # of a convnext
DINOV2 = "vit_small_patch14_dinov2"


@pytest.mark.parametrize(
    "name",
    [
        "convnext_atto",
        "resnet18",
        "efficientnet_b0",
        "mobilenetv3_small_050",
        "swin_tiny_patch4_window7_224",
        "regnetx_002",
        "pvt_v2_b0",
        "efficientvit_b0",
    ],
)
def test_maps_are_those_of_timms_own_extractor(name):
    ours = TimmBackbone(name=name).eval()
    theirs = timm.create_model(name, features_only=True, feature_cls="getter").eval()
    missing = theirs.model.load_state_dict(ours.model.state_dict(), strict=False).missing_keys
    assert not [key for key in missing if not key.startswith(("head", "norm", "conv_head"))]
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = dict(zip(theirs.feature_info.reduction(), theirs(image), strict=True))
        features = ours(image)
    assert list(ours.strides.values()) == [4, 8, 16, 32]
    for level, stride in ours.strides.items():
        torch.testing.assert_close(features[level], expected[stride])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "vit_base_patch8_224"])
def test_a_plain_transformer_gets_a_pyramid_on_its_last_map(name):
    backbone = TimmBackbone(name=name, options=PLAIN).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        tokens = backbone.model.forward_features(image)[:, backbone.model.num_prefix_tokens :]
        stride = 8 if "patch8" in name else 16
        last = tokens.transpose(1, 2).unflatten(2, (64 // stride, 96 // stride))
        expected = backbone.pyramid(last)
        for level, value in backbone(image).items():
            torch.testing.assert_close(value, expected[level])
            assert value.shape == (1, WIDTH, 64 // backbone.strides[level], 96 // backbone.strides[level])


def test_patches_of_14_pixels_become_patches_of_16():
    """What is constant over a patch, or linear, is embedded alike at both sizes."""
    torch.manual_seed(0)
    theirs = timm.create_model(DINOV2, num_classes=0, dynamic_img_size=True, **PLAIN).eval()
    torch.manual_seed(0)
    ours = TimmBackbone(name=DINOV2, options=PLAIN).eval()
    assert ours.model.patch_embed.patch_size == (16, 16)
    assert torch.equal(ours.model.pos_embed, theirs.pos_embed), "there is one position per patch still"
    coarse = torch.randn(1, 3, 4, 6)
    images = [torch.nn.functional.interpolate(coarse, scale_factor=edge) for edge in (14, 16)]
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.model.patch_embed.proj(images[1]), theirs.patch_embed.proj(images[0]), rtol=1e-3, atol=1e-4
        )


def test_a_pyramid_scales_by_powers_of_two():
    pyramid = SimpleFeaturePyramid(8, stride=16, strides={"res2": 4, "res3": 8, "res4": 16, "res5": 32})
    sizes = {level: tuple(value.shape) for level, value in pyramid(torch.randn(2, 8, 4, 6)).items()}
    assert sizes == {
        "res2": (2, WIDTH, 16, 24),
        "res3": (2, WIDTH, 8, 12),
        "res4": (2, WIDTH, 4, 6),
        "res5": (2, WIDTH, 2, 3),
    }


def test_an_image_is_filled_with_zeros_and_the_maps_are_cut():
    backbone = TimmBackbone(name="convnext_atto", options=SMALL).eval()
    image = torch.randn(1, 3, 61, 83)
    filled = torch.nn.functional.pad(image, (0, 13, 0, 3))
    with torch.inference_mode():
        whole = backbone(filled)
        for level, value in backbone(image).items():
            assert value.shape[2:] == (-(-61 // backbone.strides[level]), -(-83 // backbone.strides[level]))
            torch.testing.assert_close(value, whole[level][:, :, : value.shape[2], : value.shape[3]])


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224", "resnet18"])
def test_recomputing_runs_the_layers_again(name):
    backbone = TimmBackbone(name=name, options=PLAIN if "vit" in name else {}).train()
    backbone.set_grad_checkpointing(True)
    layer = [module for module in backbone.model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)][-1]
    calls = []
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    backbone(torch.randn(2, 3, 64, 64))["res5"].sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0", "resnet18", "swin_tiny_patch4_window7_224"])
def test_stem_and_stages_are_all_that_leads_to_the_last_map(name):
    backbone = TimmBackbone(name=name)
    parts = backbone.stem_and_stages()
    assert len(parts) == 5
    assert {parameter for part in parts for parameter in part.parameters()} == set(backbone.model.parameters())


def test_positions_belong_to_the_stem_of_a_transformer_and_blocks_are_its_stages():
    backbone = TimmBackbone(name="vit_tiny_patch16_224", options=PLAIN)
    stem, *stages = backbone.stem_and_stages()
    assert {id(backbone.model.pos_embed), id(backbone.model.cls_token)} < {id(value) for value in stem.parameters()}
    assert [list(stage) for stage in stages] == [[block] for block in backbone.model.blocks]


@pytest.mark.parametrize("variant", ["b0", "b1", "b2", "b3", "l1", "l2"])
def test_variants_of_efficientvit_are_timms(variant):
    with torch.device("meta"):
        expected = timm.create_model(f"efficientvit_{variant}", features_only=True)
    backbone = efficientvit(variant=variant)
    assert list(backbone.channels.values()) == expected.feature_info.channels()
    assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in expected.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "convnxt_tiny"}, "timm has no model 'convnxt_tiny'; did you mean convnext_tiny"),
        ({"name": "hf-hub:someone/model"}, "timm has no model 'hf-hub:someone/model'"),
        ({"name": "convnext_tiny.nothing"}, "timm cannot make convnext_tiny.nothing"),
        (
            {"options": {"widht": 3}},
            r"timm cannot make convnext_tiny with options \{'widht': 3\}: .*unexpected",
        ),
        ({"options": {"checkpoint_path": "x.pth"}}, "options: checkpoint_path: set by the backbone itself"),
        ({"name": "mixer_s16_224"}, "name: mixer_s16_224 takes no image of 64 x 96 pixels: Input height"),
        ({"name": "levit_128s"}, "name: levit_128s takes no image of 64 x 96 pixels"),
    ],
)
def test_what_timm_cannot_give_is_one_clear_error_of_the_spec(section, options, message):
    backbone = BackboneSection(type="timm", sections={"timm": TimmOptions(**options)})
    with pytest.raises(SpecError, match=rf"^model\.backbone\.timm: .*{message}") as caught:
        build(replace(section(), backbone=backbone), training=False)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_do_what_is_asked_says_so():
    backbone = TimmBackbone(name="hrnet_w18_small")
    with pytest.raises(ValueError, match="freeze_at: timm's HighResolutionNet does not tell its stages; set 0"):
        backbone.stem_and_stages()
    with pytest.raises(ValueError, match="timm's hrnet_w18_small cannot recompute its activations"):
        backbone.set_grad_checkpointing(True)


@pytest.fixture
def donor():
    """A model as timm makes it, classifier included, of 10 classes."""
    torch.manual_seed(1)
    return timm.create_model("convnext_atto", num_classes=10, **SMALL)


@pytest.fixture
def timm_section(section):
    def make(path=None, **options):
        timm_options = TimmOptions(**{"name": "convnext_atto", "options": SMALL} | options)
        backbone = BackboneSection(type="timm", sections={"timm": timm_options}, pretrained_weights=path)
        return replace(section(), backbone=backbone)

    return make


def with_classifier(donor):
    return donor.state_dict()


def without_classifier(donor):
    return {key: value for key, value in donor.state_dict().items() if not key.startswith("head.fc")}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [with_classifier, without_classifier])
def test_a_file_fills_the_backbone_alone(timm_section, donor, tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    save_file(content(donor), path) if suffix == ".safetensors" else torch.save(content(donor), path)
    model_section = timm_section(str(path))
    model = build(model_section, training=True)
    other = {key: value.clone() for key, value in model.state_dict().items() if "backbone." not in key}
    notes = load_backbone(model.backbone, path)
    expected = donor.state_dict()
    count = len(model.backbone.model.state_dict())
    assert notes == [f"{path}: {count} tensors of convnext_atto are read into the backbone"]
    for key, value in model.backbone.model.state_dict().items():
        assert torch.equal(value, expected[key])
    assert all(torch.equal(model.state_dict()[key], value) for key, value in other.items())


def test_a_file_of_a_transformer_is_resampled_with_its_patches(tmp_path):
    source = timm.create_model(DINOV2, num_classes=0, **PLAIN)
    torch.save({"model": source.state_dict()}, tmp_path / "dino.pth")
    backbone = TimmBackbone(name=DINOV2, options=PLAIN)
    backbone.initialise(str(tmp_path / "dino.pth"))
    source.set_input_size(img_size=(37 * 16, 37 * 16), patch_size=(16, 16))
    for key, value in backbone.model.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[key])


def test_building_alone_reads_no_weights(timm_section):
    build(timm_section("does-not-exist.pth", pretrained=True), training=False)


def test_without_a_file_the_weights_are_kept(timm_section):
    model = build(timm_section(), training=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert load_backbone(model.backbone, None) == []
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_pretrained_asks_timm_for_its_weights(monkeypatch):
    asked = []
    backbone = TimmBackbone(name="convnext_atto", options=SMALL, pretrained=True)
    create = timm.create_model

    def hub(name, *, pretrained, **options):
        asked.append(pretrained)
        return create(name, **options)

    monkeypatch.setattr(timm_backbones.timm, "create_model", hub)
    before = backbone.model.state_dict()["stem.0.weight"].clone()
    backbone.initialise(None)
    assert asked == [True, True]  # with and without the option of plain transformers
    assert not torch.equal(backbone.model.state_dict()["stem.0.weight"], before)


class Hostile:
    """Would make a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def missing_tensor(donor):
    state = donor.state_dict()
    del state["stages.0.blocks.0.norm.weight"]
    return state


def strange_tensor(donor):
    return donor.state_dict() | {"stages.9.weight": torch.zeros(1)}


def misshapen_tensor(donor):
    return donor.state_dict() | {"stem.0.weight": torch.zeros(8, 3, 2, 2)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (missing_tensor, 'its tensors do not fit timm\'s convnext_atto: .*"stages.0.blocks.0.norm.weight"'),
        (strange_tensor, "do not fit .*stages.9.weight"),
        (misshapen_tensor, "do not fit .*stem.0.weight"),
        (lambda donor: {"state_dict": {"epoch": 3}}, "expected tensors by name, found something else under epoch"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(donor, tmp_path, content, message):
    path = tmp_path / "weights.pth"
    torch.save(content(donor), path)
    with pytest.raises(CheckpointError, match=message) as caught:
        TimmBackbone(name="convnext_atto", options=SMALL).initialise(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_weights_is_one_line_and_nothing_is_executed(tmp_path):
    hostile, folder = tmp_path / "hostile.pth", tmp_path / "made"
    hostile.write_bytes(pickle.dumps({"state_dict": Hostile(str(folder))}))
    torch.save({"state_dict": Hostile(str(folder))}, tmp_path / "hostile.pt")
    (tmp_path / "text.safetensors").write_text("nothing")
    cases = {
        "hostile.pth": "cannot be read as tensors",
        "hostile.pt": "cannot be read as tensors",
        "text.safetensors": "cannot be read as tensors",
        "none.pth": "does not exist",
        "weights.npz": r"expected a file that ends with \.safetensors, \.pth, \.pt, \.bin",
    }
    backbone = TimmBackbone(name="convnext_atto", options=SMALL)
    for name, message in cases.items():
        with pytest.raises(CheckpointError, match=message) as caught:
            backbone.initialise(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    assert not folder.exists()
