import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from oneformer_model import Texts, task_tokens
from oneformer_model.build import build
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.hooks import Backbone
from oneformer_spec.plugins import entries, registry
from oneformer_spec.plugins.registry import Plugin, Registry
from oneformer_spec.tasks import Task


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
        ("sem_seg_head", {"pixel_decoder_name": "BasePixelDecoder"}),
        ("sem_seg_head", {"pixel_decoder_name": "TransformerEncoderPixelDecoder"}),
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


@pytest.mark.parametrize("kind", ["BasePixelDecoder", "TransformerEncoderPixelDecoder"])
@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("sem_seg_head", {"convs_dim": 64}),
        ("sem_seg_head", {"mask_dim": 64}),
        ("sem_seg_head", {"in_features": ("res3", "res4")}),
        ("sem_seg_head", {"in_features": ("res3", "res5")}),
        ("sem_seg_head", {"common_stride": 8}),
        ("sem_seg_head", {"norm": "SyncBN"}),
    ],
)
def test_a_size_in_the_spec_changes_every_pixel_decoder(section, kind, part, fields):
    chosen = {"pixel_decoder_name": kind}
    before = build(section(sem_seg_head=chosen), training=False)
    after = build(section(sem_seg_head=chosen | fields), training=False)
    assert shapes(before) != shapes(after)


def test_a_plain_encoder_is_built_as_the_spec_says(section):
    encoder = build(
        section(
            sem_seg_head={"pixel_decoder_name": "TransformerEncoderPixelDecoder", "transformer_enc_layers": 3},
            one_former={"nheads": 8, "dim_feedforward": 48, "dropout": 0.25, "pre_norm": True},
        ),
        training=True,
        activation_checkpoint=True,
    ).pixel_decoder.encoder
    assert len(encoder.layers) == 3 and encoder.use_checkpoint
    attention, feed_forward = encoder.layers[0].self_attention, encoder.layers[0].feed_forward
    assert attention.attention.num_heads == 8 and attention.pre_norm
    assert feed_forward.linear1.out_features == 48 and feed_forward.dropout.p == 0.25


def forward(model, size=(64, 96)):
    torch.manual_seed(1)
    with torch.no_grad():
        return model.eval()(torch.randn(1, 3, *size), task_tokens(Task.PANOPTIC))


@pytest.mark.parametrize("kind", ["MSDeformAttnPixelDecoder", "BasePixelDecoder", "TransformerEncoderPixelDecoder"])
@pytest.mark.parametrize(("stride", "size"), [(4, (16, 23)), (8, (8, 12)), (16, (4, 6)), (32, (2, 3))])
def test_masks_have_the_common_stride(section, kind, stride, size):
    model = build(section(sem_seg_head={"pixel_decoder_name": kind, "common_stride": stride}), training=False)
    assert forward(model, (61, 90)).mask_logits.shape == (1, 12, *size)


def test_a_finer_backbone_gives_finer_masks(section):
    fields = {"sem_seg_head": {"common_stride": 2}, "swin": {"patch_size": 2}}
    assert forward(build(section(**fields), training=False)).mask_logits.shape == (1, 12, 32, 48)


@pytest.mark.parametrize("kind", ["MSDeformAttnPixelDecoder", "BasePixelDecoder", "TransformerEncoderPixelDecoder"])
@pytest.mark.parametrize("norm", ["GN", "LN", "BN", "SyncBN"])
def test_every_pixel_decoder_learns_with_every_norm(section, kind, norm):
    model = build(section(sem_seg_head={"pixel_decoder_name": kind, "norm": norm}), training=True)
    texts = Texts(torch.tensor([[49406, 5, 49407]]), torch.zeros(2, 8, dtype=torch.int64))
    prediction = model(torch.randn(2, 3, 64, 64), task_tokens(Task.SEMANTIC, 2), texts)
    masks = torch.einsum("bqd,bdhw->bqhw", prediction.mask_embeddings[-1], prediction.mask_features)
    (masks.square().mean() + prediction.class_logits[-1].square().mean()).backward()
    unreached = [name for name, value in model.pixel_decoder.named_parameters() if value.grad is None]
    # The levels that the last of two decoder layers looked at are enough to reach every part.
    assert unreached == []


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("one_former", {"pre_norm": True}),
        ("one_former", {"use_task_norm": False}),
        ("one_former", {"nheads": 8}),
        ("one_former", {"num_feature_levels": 1}),
        ("sem_seg_head", {"norm": "LN"}),
        ("sem_seg_head", {"deformable_transformer_encoder_in_features": ("res4", "res5")}),
    ],
)
def test_a_choice_in_the_spec_changes_the_logits(section, part, fields):
    results = []
    for changes in ({}, {part: fields}):
        torch.manual_seed(0)
        results.append(forward(build(section(**changes), training=False)).class_logits)
    assert not torch.allclose(*results, atol=1e-4)


def test_precise_attention_stays_in_32_bit(section):
    torch.manual_seed(0)
    plain = build(section(), training=False).eval()
    precise = build(replace(section(), precise_msda=True), training=False).eval()
    precise.load_state_dict(plain.state_dict())
    features = {name: torch.randn(1, width, 4, 4) for name, width in plain.backbone.channels.items()}
    with torch.no_grad():
        exact = plain.pixel_decoder(features).mask_features
        assert torch.equal(precise.pixel_decoder(features).mask_features, exact)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = [model.pixel_decoder(features).mask_features for model in (plain, precise)]
    assert not torch.equal(*rounded)


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

    def __init__(self, width=8):
        super().__init__()
        self.channels = {f"res{i}": width for i in range(2, 6)}
        self.strides = {f"res{i}": 2**i for i in range(2, 6)}
        self.convs = nn.ModuleList(nn.Conv2d(3, width, 2**i, stride=2**i) for i in range(2, 6))

    def forward(self, image):
        height, width = (-(-size // 32) * 32 for size in image.shape[2:])
        image = nn.functional.pad(image, (0, width - image.shape[3], 0, height - image.shape[2]))
        return {f"res{i}": conv(image) for i, conv in enumerate(self.convs, start=2)}


class Failing(nn.Module):
    """A backbone that cannot be built."""

    def __init__(self):
        raise RuntimeError("no licence")


class Foreign(nn.Module):
    """A network that is no backbone."""


@pytest.fixture
def plugin(monkeypatch):
    def declare(kind):
        declaration = Backbone("plain", f"{__name__}:{kind.__name__}", "unused:Unused")
        owners = {("backbone", "plain"): "plain-tools"}
        found = Registry(
            backbones={"plain": declaration}, owners=owners, plugins=(Plugin("plain-tools", "1.2", "plain_tools"),)
        )
        monkeypatch.setattr(registry, "registry", lambda: found)
        monkeypatch.setattr(entries, "resolve", lambda target: kind)

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


def test_a_backbone_without_contract_is_named(plugin, plain_section):
    plugin(Foreign)
    with pytest.raises(PluginError, match=r"backbone 'plain' of plain-tools 1\.2: Foreign has no `channels`"):
        build(plain_section(), training=False)


def test_a_backbone_that_fails_is_named_with_its_plugin(plugin, plain_section):
    plugin(Failing)
    with pytest.raises(PluginError, match=r"^backbone 'plain' of plain-tools 1\.2 failed: RuntimeError: no licence$"):
        build(plain_section(), training=False)


def test_an_unknown_backbone_is_named(section):
    unknown = section(backbone={"type": "swim"})
    with pytest.raises(
        SpecError, match=r"^model\.backbone\.type: the backbone 'swim' is not installed; available: .*swin"
    ):
        build(unknown, training=False)


def test_a_class_path_names_a_backbone_that_nobody_registers(section, monkeypatch):
    monkeypatch.setitem(sys.modules, "loose_module", SimpleNamespace(Plain=Plain))
    model = build(section(backbone={"type": "loose_module:Plain", "class_options": {"width": 4}}), training=False)
    assert type(model.backbone).__name__ == "Plain"
    assert model.backbone.channels["res2"] == 4


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        (
            "sem_seg_head",
            {"common_stride": 2},
            "model.sem_seg_head.common_stride: found 2, the backbone gives the strides 4, 8, 16, 32",
        ),
        (
            "sem_seg_head",
            {"common_stride": 12},
            "model.sem_seg_head.common_stride: found 12, the backbone gives the strides 4, 8, 16, 32",
        ),
        (
            "sem_seg_head",
            {"in_features": ("res3", "res6")},
            "model.sem_seg_head.in_features: res6: the backbone gives res2, res3, res4, res5",
        ),
        (
            "sem_seg_head",
            {"deformable_transformer_encoder_in_features": ("res2", "res3")},
            "model.sem_seg_head.deformable_transformer_encoder_in_features: res2: in_features has res3, res4, res5",
        ),
        (
            "one_former",
            {"num_feature_levels": 5},
            "model.sem_seg_head.in_features, model.one_former.num_feature_levels: 5 levels for the queries are asked "
            "for; the pixel decoder has res5 (stride 32), res4 (stride 16), res3 (stride 8), res2 (stride 4)",
        ),
        (
            "one_former",
            {"hidden_dim": 30, "nheads": 4},
            "model.one_former: dim 30 is not a multiple of num_heads 4",
        ),
        ("text_encoder", {"width": 200}, "model.text_encoder.width: dim 200 is not a multiple of num_heads 3"),
    ],
)
def test_parts_that_do_not_fit_are_an_error_of_the_spec(section, part, fields, message):
    with pytest.raises(SpecError) as caught:
        build(section(**{part: fields}), training=True)
    assert str(caught.value) == message
