import pytest
import torch
from torch import nn

from oneformer_model import build as building
from oneformer_model.build import build, initialise_backbone
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.hooks import Backbone


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("sem_seg_head", {"num_classes": 5}),
        ("sem_seg_head", {"convs_dim": 64}),
        ("sem_seg_head", {"mask_dim": 64}),
        ("sem_seg_head", {"transformer_enc_layers": 2}),
        ("sem_seg_head", {"deformable_transformer_encoder_in_features": ("res4", "res5")}),
        ("sem_seg_head", {"common_stride": 8}),
        ("sem_seg_head", {"norm": "BN"}),
        ("one_former", {"hidden_dim": 64}),
        ("one_former", {"dim_feedforward": 32}),
        ("one_former", {"enc_layers": 1}),
        ("one_former", {"dec_layers": 4}),
        ("one_former", {"class_dec_layers": 2}),
        ("one_former", {"enforce_input_proj": True}),
        ("one_former", {"num_object_queries": 20}),
        ("one_former", {"num_feature_levels": 2}),
        ("text_encoder", {"width": 64}),
        ("text_encoder", {"num_layers": 2}),
        ("text_encoder", {"n_ctx": 5}),
        ("text_encoder", {"context_length": 50}),
        ("text_encoder", {"vocab_size": 50_000}),
        ("text_encoder", {"proj_num_layers": 3}),
        ("swin", {"embed_dim": 32}),
    ],
)
def test_a_size_in_the_spec_changes_the_network(section, part, fields):
    before, after = build(section(), training=True), build(section(**{part: fields}), training=True)
    assert shapes(before) != shapes(after)


@pytest.mark.parametrize(
    ("part", "fields", "found"),
    [
        ("one_former", {"dropout": 0.25}, lambda m: m.pixel_decoder.layers[0].dropout.p == 0.25),
        ("one_former", {"dropout": 0.25}, lambda m: m.query_decoder.layers[0].self_attention.dropout.p == 0.0),
        (
            "one_former",
            {"dropout": 0.25},
            lambda m: m.query_decoder.class_transformer.decoder[0].self_attention.attention.dropout == 0.25,
        ),
        ("one_former", {"pre_norm": True}, lambda m: m.query_decoder.layers[0].cross_attention.pre_norm),
        (
            "one_former",
            {"pre_norm": True},
            lambda m: m.query_decoder.class_transformer.decoder[0].feed_forward.pre_norm,
        ),
        ("one_former", {"use_task_norm": False}, lambda m: not m.query_decoder.task_norm),
        ("one_former", {"nheads": 8}, lambda m: m.pixel_decoder.layers[0].attention.num_heads == 8),
        ("text_encoder", {"causal": False}, lambda m: not m.text_branch.encoder.causal),
        (
            "one_former",
            {"contrastive_temperature": 1.0},
            lambda m: m.text_branch.logit_scale.item() == 0.0,
        ),
    ],
)
def test_a_choice_in_the_spec_reaches_its_module(section, part, fields, found):
    assert found(build(section(**{part: fields}), training=True))


def test_the_deformable_encoder_is_as_wide_as_published(section):
    model = build(section(one_former={"dim_feedforward": 48}), training=False)
    assert model.pixel_decoder.layers[0].feed_forward.linear1.out_features == 1024
    assert model.query_decoder.layers[0].feed_forward.linear1.out_features == 48


@pytest.mark.parametrize("count", [-1, 0, 1, 3])
def test_freeze_at_counts_stem_and_stages(section, count):
    model = build(section(backbone={"freeze_at": count}), training=True).train()
    parts = [model.backbone.patch_embedding, *model.backbone.stages]
    frozen = [not any(parameter.requires_grad for parameter in part.parameters()) for part in parts]
    assert frozen == [index < count for index in range(5)]
    assert [not part.training for part in parts] == frozen


def test_freezing_more_than_there_is_is_an_error(section):
    with pytest.raises(SpecError, match=r"^model\.backbone\.freeze_at: found 6, swin has 5 parts"):
        build(section(backbone={"freeze_at": 6}), training=True)


class Plain(nn.Module):
    """A backbone that has only what it must have."""

    def __init__(self):
        super().__init__()
        self.channels = {f"res{i}": 8 for i in range(2, 6)}
        self.strides = {f"res{i}": 2**i for i in range(2, 6)}
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 2**i, stride=2**i) for i in range(2, 6))

    def forward(self, image):
        height, width = (-(-size // 32) * 32 for size in image.shape[2:])
        image = nn.functional.pad(image, (0, width - image.shape[3], 0, height - image.shape[2]))
        return {f"res{i}": conv(image) for i, conv in enumerate(self.convs, start=2)}


class Foreign(nn.Module):
    """A network that is no backbone."""


@pytest.fixture
def plugin(monkeypatch):
    def declare(kind):
        declaration = Backbone("plain", f"{__name__}:{kind.__name__}", "unused:Unused")
        monkeypatch.setattr(building, "backbone_declarations", lambda: {"plain": declaration})
        monkeypatch.setattr(building, "resolve", lambda target: kind)

    return declare


@pytest.fixture
def plain_section(section):
    from dataclasses import make_dataclass

    options = make_dataclass("Options", [])()
    return lambda **fields: section(backbone={"type": "plain", "sections": {"plain": options}, **fields})


def test_a_plugins_backbone_needs_channels_strides_and_forward_only(plugin, plain_section):
    plugin(Plain)
    model = build(plain_section(), training=True, activation_checkpoint=True)
    assert model.recompute_backbone
    tokens = torch.zeros(1, 77)
    assert model.eval()(torch.randn(1, 3, 64, 96), tokens).mask_logits.shape == (1, 12, 16, 24)
    with pytest.raises(SpecError, match="plain does not tell its stages"):
        build(plain_section(freeze_at=1), training=True)
    assert initialise_backbone(model, plain_section()) == []
    with pytest.raises(SpecError, match=r"^model\.backbone\.pretrained_weights: the backbone plain reads no"):
        initialise_backbone(model, plain_section(pretrained_weights="plain.pth"))


def test_a_backbone_without_contract_is_named(plugin, plain_section):
    plugin(Foreign)
    with pytest.raises(PluginError, match="backbone plain: Foreign has no `channels`"):
        build(plain_section(), training=False)


def test_an_unknown_backbone_is_named(plugin, section):
    plugin(Plain)
    with pytest.raises(SpecError, match=r"^model\.backbone\.type: 'swin' is not installed here; known: plain"):
        build(section(), training=False)


def test_parts_that_do_not_fit_are_an_error_of_the_spec(section):
    with pytest.raises(SpecError, match="no output of stride 2"):
        build(section(sem_seg_head={"common_stride": 2}), training=False)
