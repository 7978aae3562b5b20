"""The tables against names that were observed in files of others, never against names of our own."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from oneformer_model.adapters.huggingface import IN_MEMORY, ON_DISK
from oneformer_model.adapters.original import SHI_LABS, SWIN_MICROSOFT, SWIN_TIMM, TAO
from oneformer_model.adapters.sizes import section_of, task_length
from oneformer_model.adapters.table import Rule, Table, attention
from oneformer_model.backbones.swin import SwinTransformer
from oneformer_model.build import build
from oneformer_model.network.layers import MultiHeadAttention
from oneformer_model.weights.sources import table_of

OBSERVED = json.loads(gzip.decompress((Path(__file__).parent / "keys" / "swin_tiny.json.gz").read_bytes()))
WHOLE = [(ON_DISK, "hf_disk"), (IN_MEMORY, "hf_memory"), (SHI_LABS, "shi"), (TAO, "tao")]
BACKBONES = [(SWIN_MICROSOFT, "swin_microsoft"), (SWIN_TIMM, "timm_swin_tiny")]
NOT_IN_FILES = {"shi": {"text_branch.logit_scale"}, "tao": {"text_branch.logit_scale"}}
# The folder's writer adds the class weights; nobody uses TAO's classifier.
NOT_WRITTEN = {
    "hf_disk": {"criterion.empty_weight"},
    "hf_memory": {"criterion.empty_weight"},
    "tao": {"model.backbone.head.weight", "model.backbone.head.bias"},
}


def observed(name):
    """Tensors of the observed shapes; each holds its own number, without taking the memory of its size."""
    return {key: torch.tensor(float(n)).expand(shape) for n, (key, shape) in enumerate(OBSERVED[name].items())}


@pytest.fixture(scope="module")
def own_shapes():
    section = section_of(ON_DISK.to_ours(observed("hf_disk")))
    with torch.device("meta"):
        model = build(section, training=True)
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("table", "name"), WHOLE)
def test_every_tensor_finds_its_place(table, name, own_shapes):
    state = table.to_ours(observed(name))
    assert own_shapes.keys() - state.keys() == NOT_IN_FILES.get(name, set())
    assert state.keys() - own_shapes.keys() == set()
    assert [key for key, value in state.items() if value.shape != own_shapes[key]] == []


@pytest.mark.parametrize(("table", "name"), WHOLE)
def test_the_way_back_gives_the_same_file(table, name):
    tensors = observed(name)
    written = table.to_theirs(table.to_ours(tensors))
    assert tensors.keys() - written.keys() == NOT_WRITTEN.get(name, set())
    assert written.keys() - tensors.keys() == set()
    added = {key for key in tensors if "swin.layernorm" in key or "relative_position_index" in key}
    kept = tensors.keys() & written.keys() - added
    assert [key for key in kept if not torch.equal(written[key], tensors[key])] == []


@pytest.mark.parametrize(("table", "name"), [*WHOLE, *BACKBONES])
def test_names_tell_their_kind(table, name):
    assert table_of(observed(name), "file") is table


@pytest.mark.parametrize(("table", "name"), BACKBONES)
def test_a_classifier_fills_a_backbone_but_for_the_norms_of_its_outputs(table, name):
    with torch.device("meta"):
        backbone = SwinTransformer(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7)
    own = backbone.state_dict()
    state = table.to_ours(observed(name))
    assert own.keys() - state.keys() == {f"norms.res{i}.{part}" for i in (2, 3, 4, 5) for part in ("weight", "bias")}
    assert state.keys() - own.keys() == set()
    assert [key for key, value in state.items() if value.shape != own[key].shape] == []


@pytest.mark.parametrize(("table", "name"), WHOLE)
def test_shapes_tell_the_sizes(table, name):
    state = table.to_ours(observed(name))
    section = section_of(state)
    swin, head, decoder = section.backbone.options, section.sem_seg_head, section.one_former
    assert (swin.embed_dim, swin.depths, swin.num_heads, swin.window_size) == (96, (2, 2, 6, 2), (3, 6, 12, 24), 7)
    assert (swin.mlp_ratio, swin.patch_size, swin.qkv_bias, swin.ape, swin.patch_norm) == (4.0, 4, True, False, True)
    assert (head.num_classes, head.convs_dim, head.mask_dim, head.transformer_enc_layers) == (133, 256, 256, 6)
    assert head.deformable_transformer_encoder_in_features == ("res3", "res4", "res5")
    assert head.common_stride == 4
    assert (decoder.hidden_dim, decoder.nheads, decoder.dim_feedforward) == (256, 8, 2048)
    assert (decoder.dec_layers, decoder.class_dec_layers, decoder.enc_layers) == (10, 2, 0)
    assert (decoder.num_object_queries, decoder.num_feature_levels, decoder.enforce_input_proj) == (150, 3, False)
    assert (section.text_encoder.width, section.text_encoder.num_layers, section.text_encoder.n_ctx) == (256, 6, 16)
    assert task_length(state) == 77


def test_the_index_buffer_of_the_original_is_that_of_swin():
    state = SHI_LABS.to_theirs(SHI_LABS.to_ours(observed("shi")))
    index = state["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert index.shape == (49, 49)
    assert index[0, 0] == index[48, 48] == 84  # the middle of 13 x 13: no displacement
    assert index[0, 48] == 0  # 6 up and 6 to the left
    assert index[48, 0] == 168


def test_the_one_matrix_of_torchs_attention_holds_queries_keys_and_values():
    theirs, ours = torch.nn.MultiheadAttention(8, 2, batch_first=True), MultiHeadAttention(8, 2)
    torch.nn.init.normal_(theirs.in_proj_bias)
    table = Table("torch", "a", attention("theirs", "ours"))
    state = table.to_ours({f"theirs.{name}": value for name, value in theirs.state_dict().items()})
    ours.load_state_dict({name.removeprefix("ours."): value for name, value in state.items()})
    query, key, value = torch.randn(3, 2, 5, 8)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])


@pytest.mark.parametrize(
    ("table", "name", "parts"),
    [
        (ON_DISK, "hf_disk", "encoder.encoder.layers.1.blocks.0.attention.self.{}.bias"),
        (IN_MEMORY, "hf_memory", "encoder.swin.encoder.layers.1.blocks.0.attention.{:.1}_proj.bias"),
    ],
)
def test_separate_queries_keys_and_values_are_joined_in_this_order(table, name, parts):
    tensors = observed(name)
    joined = table.to_ours(tensors)["backbone.stages.1.blocks.0.attention.qkv.bias"].chunk(3)
    for part, word in zip(joined, ("query", "key", "value"), strict=True):
        assert torch.equal(part, tensors["model.pixel_level_module." + parts.format(word)])


PARTS = Table("parts", "a", (Rule(("x.{}.q", "x.{}.k"), "y.{}.qk"), Rule("in_weight", ("q.weight", "k.weight"))))


def test_parts_are_joined_and_cut_in_order():
    q, k = torch.zeros(2, 3), torch.ones(2, 3)
    ours = PARTS.to_ours({"x.4.k.weight": k, "x.4.q.weight": q, "in_weight": torch.cat((k, q))})
    assert torch.equal(ours["y.4.qk.weight"], torch.cat((q, k)))
    assert torch.equal(ours["q.weight"], k)
    back = PARTS.to_theirs(ours)
    assert torch.equal(back["x.4.k.weight"], k)
    assert torch.equal(back["in_weight"], torch.cat((k, q)))


@pytest.mark.parametrize(
    "parts", [{"x.4.q.weight": torch.zeros(2)}, {"x.0.q": torch.zeros(2), "x.0.k": torch.zeros(3)}]
)
def test_parts_that_do_not_fit_keep_their_names(parts):
    assert PARTS.to_ours(parts) == parts


def test_what_no_row_knows_keeps_its_name():
    assert list(PARTS.to_ours({"x.q": torch.zeros(1), "in_weights": torch.zeros(1)})) == ["x.q", "in_weights"]
