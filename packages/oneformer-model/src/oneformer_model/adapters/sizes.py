"""Infer the sizes of a network, as the spec's section `model`, from the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import Any

from torch import Tensor

from oneformer_spec.schema import BackboneSection, ModelSection, OneFormerSection, SemSegHead, SwinOptions, TextEncoder

_POINTS = 4  # sampling points per level and head, the same in every published network


class Shapes:
    """The shapes of named tensors; unknown sizes are None, so that loading reports the missing tensor."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Use the tensors of `state`."""
        self.state = state

    def size(self, name: str, axis: int) -> int | None:
        """Return one size of a tensor."""
        shape = self.state[name].shape if name in self.state else ()
        return shape[axis] if axis < len(shape) else None

    def count(self, prefix: str) -> int | None:
        """Return the number of numbered modules after a prefix."""
        pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
        return len({match[1] for name in self.state if (match := pattern.match(name))}) or None

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the names that follow a prefix, sorted."""
        return tuple(sorted({name[len(prefix) :].split(".")[0] for name in self.state if name.startswith(prefix)}))


def section_of(state: Mapping[str, Tensor]) -> ModelSection:
    """Return the section `model` of a network with a Swin backbone; what shapes do not determine is the default."""
    shapes = Shapes(state)
    return ModelSection(
        backbone=BackboneSection(sections={"swin": _swin(shapes)}),
        sem_seg_head=_pixel_decoder(shapes),
        one_former=_query_decoder(shapes),
        text_encoder=_text_encoder(shapes),
    )


def task_length(state: Mapping[str, Tensor]) -> int | None:
    """Return the number of tokens of a task prompt."""
    return Shapes(state).size("task_encoder.layers.0.weight", 1)


def _swin(shapes: Shapes) -> SwinOptions:
    stem = "backbone.patch_embedding."
    dim, patch = shapes.size(f"{stem}projection.weight", 0), shapes.size(f"{stem}projection.weight", 2)
    cells = shapes.size(f"{stem}position", 2)
    stages = range(shapes.count("backbone.stages.") or 0)
    depths = [shapes.count(f"backbone.stages.{stage}.blocks.") for stage in stages]
    first = "backbone.stages.{}.blocks.0."
    tables = [f"{first.format(stage)}attention.relative_position_bias" for stage in stages]
    rows, hidden = shapes.size(tables[0], 0) if tables else None, shapes.size(f"{first.format(0)}mlp.linear1.weight", 0)
    features = tuple(name for name in shapes.keys("backbone.norms.") if re.fullmatch(r"res[2-5]", name))
    return _known(
        SwinOptions(),
        embed_dim=dim,
        depths=_all(depths),
        num_heads=_all([shapes.size(table, 1) for table in tables]),
        window_size=(isqrt(rows) + 1) // 2 if rows else None,
        mlp_ratio=hidden / dim if hidden and dim else None,
        qkv_bias=f"{first.format(0)}attention.qkv.bias" in shapes.state,
        patch_norm=f"{stem}norm.weight" in shapes.state,
        patch_size=patch,
        ape=cells is not None,
        pretrain_img_size=cells * patch if cells and patch else None,
        out_features=features or None,
        out_indices=tuple(int(name[3:]) - 2 for name in features) or None,
    )


def _pixel_decoder(shapes: Shapes) -> SemSegHead:
    projection = "pixel_decoder.mask_projection.weight"
    encoded, refined = shapes.keys("pixel_decoder.input_projections."), shapes.keys("pixel_decoder.laterals.")
    classes = shapes.size("query_decoder.class_head.weight", 0)
    patch = shapes.size("backbone.patch_embedding.projection.weight", 2)
    finest = min((int(name[3:]) - 2 for name in (*encoded, *refined) if re.fullmatch(r"res[2-5]", name)), default=None)
    return _known(
        SemSegHead(),
        num_classes=classes - 1 if classes else None,
        in_features=encoded or None,
        deformable_transformer_encoder_in_features=encoded or None,
        common_stride=patch * 2**finest if patch and finest is not None else None,
        transformer_enc_layers=shapes.count("pixel_decoder.layers."),
        convs_dim=shapes.size(projection, 1),
        mask_dim=shapes.size(projection, 0),
        norm="BN" if any(name.endswith(".norm.running_mean") for name in shapes.state) else None,
    )


def _query_decoder(shapes: Shapes) -> OneFormerSection:
    weights = shapes.size("pixel_decoder.layers.0.attention.attention_weights.weight", 0)
    levels = shapes.size("pixel_decoder.level_embedding", 0)
    queries, layers = "query_decoder.query_embedding.weight", shapes.count("query_decoder.layers.")
    dim, width = shapes.size(queries, 1), shapes.size("pixel_decoder.mask_projection.weight", 1)
    return _known(
        OneFormerSection(),
        hidden_dim=dim,
        nheads=weights // (levels * _POINTS) if weights and levels else None,
        dim_feedforward=shapes.size("query_decoder.layers.0.feed_forward.linear1.weight", 0),
        enc_layers=shapes.count("query_decoder.class_transformer.encoder."),
        dec_layers=layers + 1 if layers else None,
        class_dec_layers=shapes.count("query_decoder.class_transformer.decoder."),
        num_object_queries=shapes.size(queries, 0),
        enforce_input_proj=dim == width and "query_decoder.input_projections.0.weight" in shapes.state,
        num_feature_levels=shapes.size("query_decoder.level_embedding.weight", 0),
    )


def _text_encoder(shapes: Shapes) -> TextEncoder:
    encoder = "text_branch.encoder."
    return _known(
        TextEncoder(),
        context_length=shapes.size(f"{encoder}position_embedding", 0),
        vocab_size=shapes.size(f"{encoder}token_embedding.weight", 0),
        width=shapes.size(f"{encoder}token_embedding.weight", 1),
        num_layers=shapes.count(f"{encoder}blocks."),
        n_ctx=shapes.size("text_branch.context.weight", 0),
        proj_num_layers=shapes.count("text_branch.projector.layers."),
    )


def _all(values: list[int | None]) -> tuple[int | None, ...] | None:
    return tuple(values) if values and None not in values else None


def _known(section: Any, **values: Any) -> Any:
    return replace(section, **{name: value for name, value in values.items() if value is not None})
