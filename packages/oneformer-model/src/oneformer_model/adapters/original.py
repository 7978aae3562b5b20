"""Names of the original implementation: SHI-Labs' on detectron2, TAO's copy of it, and Swin files of its authors.

The layout follows the paper's released checkpoints; parts that are torch's own modules keep torch's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor

from oneformer_model.adapters.table import Rule, Table, attention, under
from oneformer_model.backbones.windows import relative_index

_NUM_STAGES = 4
_BLOCK = {
    "norm1": "norm1",
    "attn.relative_position_bias_table": "attention.relative_position_bias",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.projection",
    "norm2": "norm2",
    "mlp.fc1": "mlp.linear1",
    "mlp.fc2": "mlp.linear2",
}
_BUFFERS = ("layers.{}.blocks.{}.attn.relative_position_index", "layers.{}.blocks.{}.attn_mask")


def swin(theirs: str, ours: str, *, merging_opens_stage: bool = False) -> tuple[Rule, ...]:
    """Return the rows of a Swin Transformer behind both prefixes; its authors let the merging end a stage, timm not."""
    stem = {
        "patch_embed.proj": "patch_embedding.projection",
        "patch_embed.norm": "patch_embedding.norm",
        "absolute_pos_embed": "patch_embedding.position",
    }
    later = 1 if merging_opens_stage else 0
    merging = {f"layers.{stage + later}.downsample": f"stages.{stage}.downsample" for stage in range(_NUM_STAGES - 1)}
    norms = {f"norm{stage}": f"norms.res{stage + 2}" for stage in range(_NUM_STAGES)}
    return (
        *under(theirs, ours, stem),
        *under(f"{theirs}layers.{{}}.blocks.{{}}.", f"{ours}stages.{{}}.blocks.{{}}.", _BLOCK),
        *under(theirs, ours, merging),
        *under(theirs, ours, norms),
    )


def _pixel_decoder(theirs: str, ours: str) -> tuple[Rule, ...]:
    inputs = {}
    for index in range(_NUM_STAGES):  # coarsest first
        inputs[f"input_proj.{index}.0"] = f"input_projections.res{5 - index}.conv"
        inputs[f"input_proj.{index}.1"] = f"input_projections.res{5 - index}.norm"
    pyramid = {}
    for number in range(1, _NUM_STAGES):  # finest first
        for their_name, our_name in (("adapter", "laterals"), ("layer", "outputs")):
            pyramid[f"{their_name}_{number}.weight"] = f"{our_name}.res{number + 1}.conv.weight"
            pyramid[f"{their_name}_{number}.norm"] = f"{our_name}.res{number + 1}.norm"
    layer = {
        "self_attn.sampling_offsets": "attention.sampling_offsets",
        "self_attn.attention_weights": "attention.attention_weights",
        "self_attn.value_proj": "attention.value",
        "self_attn.output_proj": "attention.output",
        "norm1": "norm",
        "linear1": "feed_forward.linear1",
        "linear2": "feed_forward.linear2",
        "norm2": "feed_forward.norm",
    }
    rest = {"transformer.level_embed": "level_embedding", "mask_features": "mask_projection"}
    return (
        *under(theirs, ours, inputs | pyramid | rest),
        *under(f"{theirs}transformer.encoder.layers.{{}}.", f"{ours}layers.{{}}.", layer),
    )


def class_transformer(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rows for the class transformer, which is named like DETR's transformer."""
    feed_forward = {"linear1": "feed_forward.linear1", "linear2": "feed_forward.linear2"}
    encoder, decoder = f"{theirs}encoder.layers.{{}}.", f"{theirs}decoder.layers.{{}}."
    our_encoder, our_decoder = f"{ours}encoder.{{}}.", f"{ours}decoder.{{}}."
    return (
        *attention(f"{encoder}self_attn", f"{our_encoder}self_attention.attention"),
        *under(encoder, our_encoder, feed_forward | {"norm1": "self_attention.norm", "norm2": "feed_forward.norm"}),
        Rule(f"{theirs}encoder.norm", f"{ours}encoder_norm"),
        *attention(f"{decoder}self_attn", f"{our_decoder}self_attention.attention"),
        *attention(f"{decoder}multihead_attn", f"{our_decoder}cross_attention.attention"),
        *under(
            decoder,
            our_decoder,
            feed_forward
            | {"norm1": "self_attention.norm", "norm2": "cross_attention.norm", "norm3": "feed_forward.norm"},
        ),
        Rule(f"{theirs}decoder.norm", f"{ours}norm"),
    )


def _query_decoder(theirs: str, ours: str) -> tuple[Rule, ...]:
    names = {
        "transformer_self_attention_layers.{}.norm": "layers.{}.self_attention.norm",
        "transformer_cross_attention_layers.{}.norm": "layers.{}.cross_attention.norm",
        "transformer_ffn_layers.{}": "layers.{}.feed_forward",
        "decoder_norm": "norm",
        "query_embed": "query_embedding",
        "level_embed": "level_embedding",
        "class_input_proj": "class_projection",
        "class_embed": "class_head",
        "mask_embed": "mask_head",
        "input_proj": "input_projections",
    }
    layers = f"{ours}layers.{{}}."
    return (
        *class_transformer(f"{theirs}class_transformer.", f"{ours}class_transformer."),
        *attention(f"{theirs}transformer_self_attention_layers.{{}}.self_attn", f"{layers}self_attention.attention"),
        *attention(
            f"{theirs}transformer_cross_attention_layers.{{}}.multihead_attn", f"{layers}cross_attention.attention"
        ),
        *under(theirs, ours, names),
    )


def _texts(theirs: str) -> tuple[Rule, ...]:
    names = {
        "task_mlp": "task_encoder",
        "text_encoder.positional_embedding": "text_branch.encoder.position_embedding",
        "text_encoder.token_embedding": "text_branch.encoder.token_embedding",
        "text_encoder.ln_final": "text_branch.encoder.norm",
        "text_projector": "text_branch.projector",
        "prompt_ctx": "text_branch.context",
        "criterion.logit_scale": "text_branch.logit_scale",
    }
    block = {"ln_1": "norm1", "ln_2": "norm2", "mlp.c_fc": "linear1", "mlp.c_proj": "linear2"}
    theirs_block, ours_block = f"{theirs}text_encoder.transformer.resblocks.{{}}.", "text_branch.encoder.blocks.{}."
    return (
        *under(theirs, "", names),
        *attention(f"{theirs_block}attn", f"{ours_block}attention"),
        *under(theirs_block, ours_block, block),
    )


def _original(kind: str, prefix: str) -> Table:
    head = f"{prefix}sem_seg_head."
    return Table(
        kind=kind,
        marker=f"{head}predictor.query_embed.weight",
        rules=(
            *swin(f"{prefix}backbone.", "backbone."),
            *_pixel_decoder(f"{head}pixel_decoder.", "pixel_decoder."),
            *_query_decoder(f"{head}predictor.", "query_decoder."),
            *_texts(prefix),
        ),
        ignored=(
            *(f"{prefix}backbone.{name}" for name in _BUFFERS),
            f"{prefix}backbone.head",  # a classifier that TAO builds and never uses
            f"{prefix}criterion.empty_weight",
        ),
        added=_window_indices,
    )


def _window_indices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the index buffer (N, N) that belongs to each bias table ((2 w - 1)^2, M) for windows of N = w^2 cells."""
    found = {}
    for name, value in state.items():
        if name.endswith("relative_position_bias_table"):
            window = (isqrt(len(value)) + 1) // 2
            index = relative_index(window, torch.device("cpu")).view(window**2, window**2)
            found[name.replace("_bias_table", "_index")] = index.clone()
    return found


SHI_LABS = _original("SHI-Labs", "")
TAO = _original("TAO", "model.")
SWIN_MICROSOFT = Table(
    kind="Swin of its authors",
    marker="layers.0.downsample.reduction.weight",
    rules=swin("", ""),
    ignored=(*_BUFFERS, "norm", "head"),
)
SWIN_TIMM = Table(
    kind="Swin of timm",
    marker="layers.3.downsample.reduction.weight",
    rules=swin("", "", merging_opens_stage=True),
    ignored=(*_BUFFERS, "norm", "head"),
)
