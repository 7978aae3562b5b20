"""Tensor names of Hugging Face's OneFormer with a Swin backbone, on disk and as modules in memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from oneformer_model.adapters.original import class_transformer
from oneformer_model.adapters.table import Rule, Table, attention, under

_ENCODER = "model.pixel_level_module.encoder."
_PIXELS = "model.pixel_level_module.decoder."
_DECODER = "model.transformer_module.decoder."
_TEXT = "model.text_mapper."
_NUM_STAGES = 4


def _swin(stem: str, queries_keys_values: tuple[str, ...], block: Mapping[str, str]) -> tuple[Rule, ...]:
    """Return the rows for the backbone; names in memory and on disk differ inside blocks and in the stem."""
    blocks, our_blocks = f"{stem}encoder.layers.{{}}.blocks.{{}}.", "backbone.stages.{}.blocks.{}."
    embedding = {"patch_embeddings.projection": "projection", "norm": "norm"}
    norms = {"layernorm_before": "norm1", "layernorm_after": "norm2"}
    return (
        *under(f"{stem}embeddings.", "backbone.patch_embedding.", embedding),
        Rule(tuple(f"{blocks}{name}" for name in queries_keys_values), f"{our_blocks}attention.qkv"),
        *under(blocks, our_blocks, norms | dict(block)),
        Rule(f"{stem}encoder.layers.{{}}.downsample", "backbone.stages.{}.downsample"),
        *(
            Rule(f"{_ENCODER}hidden_states_norms.stage{stage + 1}", f"backbone.norms.res{stage + 2}")
            for stage in range(_NUM_STAGES)
        ),
    )


def _pixel_decoder() -> tuple[Rule, ...]:
    names = {"level_embed": "level_embedding", "mask_projection": "mask_projection"}
    for index in range(_NUM_STAGES):  # coarsest first
        names[f"input_projections.{index}.0"] = f"input_projections.res{5 - index}.conv"
        names[f"input_projections.{index}.1"] = f"input_projections.res{5 - index}.norm"
    for number in range(1, _NUM_STAGES):  # finest first
        for their_name, our_name in (("adapter", "laterals"), ("layer", "outputs")):
            names[f"{their_name}_{number}.0"] = f"{our_name}.res{number + 1}.conv"
            names[f"{their_name}_{number}.1"] = f"{our_name}.res{number + 1}.norm"
    layer = {
        "self_attn.sampling_offsets": "attention.sampling_offsets",
        "self_attn.attention_weights": "attention.attention_weights",
        "self_attn.value_proj": "attention.value",
        "self_attn.output_proj": "attention.output",
        "self_attn_layer_norm": "norm",
        "fc1": "feed_forward.linear1",
        "fc2": "feed_forward.linear2",
        "final_layer_norm": "feed_forward.norm",
    }
    return (
        *under(_PIXELS, "pixel_decoder.", names),
        *under(f"{_PIXELS}encoder.layers.{{}}.", "pixel_decoder.layers.{}.", layer),
    )


def _query_decoder() -> tuple[Rule, ...]:
    around = {
        "queries_embedder": "query_embedding",
        "level_embed": "level_embedding",
        "input_projections": "input_projections",
        "decoder.query_input_projection": "class_projection",
        "decoder.decoder_norm": "norm",
        "decoder.class_embed": "class_head",
    }
    layer = {
        "cross_attn.norm": "cross_attention.norm",
        "self_attn.norm": "self_attention.norm",
        "self_attn.self_attn.q_proj": "self_attention.attention.query",
        "self_attn.self_attn.k_proj": "self_attention.attention.key",
        "self_attn.self_attn.v_proj": "self_attention.attention.value",
        "self_attn.self_attn.out_proj": "self_attention.attention.output",
        "ffn": "feed_forward",
    }
    layers, our_layers = f"{_DECODER}layers.{{}}.", "query_decoder.layers.{}."
    return (
        *under("model.transformer_module.", "query_decoder.", around),
        *class_transformer(f"{_DECODER}query_transformer.", "query_decoder.class_transformer."),
        *attention(f"{layers}cross_attn.multihead_attn", f"{our_layers}cross_attention.attention"),
        *under(layers, our_layers, layer),
        Rule(f"{_DECODER}mask_embed.layers.{{}}.0", "query_decoder.mask_head.layers.{}"),
    )


def _texts() -> tuple[Rule, ...]:
    encoder = {
        "positional_embedding": "position_embedding",
        "token_embedding": "token_embedding",
        "ln_final": "norm",
    }
    block = {"layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "linear1", "mlp.fc2": "linear2"}
    blocks, our_blocks = f"{_TEXT}text_encoder.transformer.layers.{{}}.", "text_branch.encoder.blocks.{}."
    return (
        Rule("model.task_encoder.task_mlp.layers.{}.0", "task_encoder.layers.{}"),
        *under(f"{_TEXT}text_encoder.", "text_branch.encoder.", encoder),
        *attention(f"{blocks}self_attn", f"{our_blocks}attention"),
        *under(blocks, our_blocks, block),
        Rule(f"{_TEXT}text_projector.layers.{{}}.0", "text_branch.projector.layers.{}"),
        Rule(f"{_TEXT}prompt_ctx", "text_branch.context"),
        Rule("criterion.logit_scale", "text_branch.logit_scale"),
    )


def _table(kind: str, stem: str, backbone: tuple[Rule, ...]) -> Table:
    return Table(
        kind=kind,
        marker=f"{stem}embeddings.patch_embeddings.projection.weight",
        rules=(*backbone, *_pixel_decoder(), *_query_decoder(), *_texts()),
        ignored=(
            f"{_ENCODER}swin.layernorm",  # follows the last stage; OneFormer takes the maps before it
            f"{stem}encoder.layers.{{}}.blocks.{{}}.attention.self.relative_position_index",
            "criterion.empty_weight",
        ),
        added=_unused,
    )


def _unused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the initial values of the normalisation layer on which no output depends."""
    width = state[f"{_ENCODER}hidden_states_norms.stage{_NUM_STAGES}.weight"].shape
    return {f"{_ENCODER}swin.layernorm.weight": torch.ones(width), f"{_ENCODER}swin.layernorm.bias": torch.zeros(width)}


ON_DISK = _table(
    "Hugging Face",
    _ENCODER,
    _swin(
        _ENCODER,
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        {
            "attention.self.relative_position_bias_table": "attention.relative_position_bias",
            "attention.output.dense": "attention.projection",
            "intermediate.dense": "mlp.linear1",
            "output.dense": "mlp.linear2",
        },
    ),
)
IN_MEMORY = _table(
    "Hugging Face",
    f"{_ENCODER}swin.",
    _swin(
        f"{_ENCODER}swin.",
        ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        {
            "attention.relative_position_bias.relative_position_bias_table": "attention.relative_position_bias",
            "attention.o_proj": "attention.projection",
            "mlp.fc1": "mlp.linear1",
            "mlp.fc2": "mlp.linear2",
        },
    ),
)
