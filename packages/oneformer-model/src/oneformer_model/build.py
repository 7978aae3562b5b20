"""Build the network from the spec's section `model`; the network's own modules never read the spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from torch import nn

from oneformer_model.backbones import Backbone, Recomputing, Staged
from oneformer_model.network.layers import ClassTransformer
from oneformer_model.network.oneformer import OneFormer, TaskEncoder
from oneformer_model.network.pixel_decoder import DeformablePixelDecoder
from oneformer_model.network.pixel_features import PixelDecoder
from oneformer_model.network.pyramid_decoders import MapEncoder, PyramidPixelDecoder
from oneformer_model.network.query_decoder import QueryDecoder
from oneformer_model.network.text_branch import TextBranch, TextEncoder
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.plugins.entries import naming_plugin, part_name, target_of
from oneformer_spec.schema import ModelSection
from oneformer_spec.tasks import CONTEXT_LENGTH

_TASK_LAYERS = 2


def build(
    section: ModelSection, *, training: bool, activation_checkpoint: bool = False, task_length: int = CONTEXT_LENGTH
) -> OneFormer:
    """Build the network with fresh weights.

    Args:
        section: `spec.model`.
        training: Build the text branch too, and freeze what `freeze_at` names.
        activation_checkpoint: Recompute activations of backbone and pixel decoder in the backward pass.
        task_length: Tokens of the task's prompt, `dataset.task_seq_len`.

    Raises:
        SpecError: The parts do not fit together.
        PluginError: The backbone cannot be loaded or breaks its contract.
    """
    try:
        backbone = _backbone(section)
        pixel_decoder = _pixel_decoder(section, backbone)
        with _naming("model.one_former"):
            query_decoder = _query_decoder(section)
        with _naming("model.text_encoder.width"):
            text_branch = _text_branch(section) if training else None
        dim = section.one_former.hidden_dim
        model = OneFormer(
            cast(nn.Module, backbone),
            cast(nn.Module, pixel_decoder),
            query_decoder,
            TaskEncoder(task_length, dim, dim, _TASK_LAYERS),
            text_branch,
        )
        if training:
            model.freeze(_frozen(section, backbone))
        if activation_checkpoint:
            _recompute(model, backbone, pixel_decoder)
    except ValueError as error:
        raise SpecError(f"model: {error}") from error
    return model


def _backbone(section: ModelSection) -> Backbone:
    name = section.backbone.type
    keywords = section.backbone.keywords()
    with naming_plugin("backbone", name):
        try:
            backbone = target_of("backbone", name)(**keywords)
        except ValueError as error:
            raise SpecError(f"model.backbone.{name}: {error}") from error
    if not isinstance(backbone, Backbone):
        raise PluginError(f"{part_name('backbone', name)}: {type(backbone).__name__} has no `channels` and `strides`")
    return backbone


@contextmanager
def _naming(fields: str) -> Iterator[None]:
    """Name the fields of the spec in the error of a part that cannot be built from them."""
    try:
        yield
    except ValueError as error:
        raise SpecError(f"{fields}: {error}") from error


def _frozen(section: ModelSection, backbone: Backbone) -> list[nn.Module]:
    """Return the first `freeze_at` parts of a backbone: 1 is the stem, 2 also the first stage, and so on."""
    count, name = section.backbone.freeze_at, section.backbone.type
    if count <= 0:
        return []
    if not isinstance(backbone, Staged):
        raise SpecError(f"model.backbone.freeze_at: the backbone {name} does not tell its stages; set 0")
    parts = list(backbone.stem_and_stages())
    if count > len(parts):
        raise SpecError(f"model.backbone.freeze_at: found {count}, {name} has {len(parts)} parts, the stem included")
    return parts[:count]


def _recompute(model: OneFormer, backbone: Backbone, pixel_decoder: PixelDecoder) -> None:
    """Recompute activations in the backward pass: per block if the backbone supports it, else for all of it."""
    pixel_decoder.use_checkpoint = True
    if isinstance(backbone, Recomputing):
        backbone.set_grad_checkpointing(True)
    else:
        model.recompute_backbone = True


def _pixel_decoder(section: ModelSection, backbone: Backbone) -> PixelDecoder:
    head, path = section.sem_seg_head, "model.sem_seg_head"
    missing = [name for name in head.in_features if name not in backbone.channels]
    if missing:
        raise SpecError(f"{path}.in_features: {', '.join(missing)}: the backbone gives {', '.join(backbone.channels)}")
    if head.common_stride not in backbone.strides.values():
        known = ", ".join(str(stride) for stride in sorted(backbone.strides.values()))
        raise SpecError(f"{path}.common_stride: found {head.common_stride}, the backbone gives the strides {known}")
    with _naming(f"{path}.in_features, model.one_former.num_feature_levels"):
        return _PIXEL_DECODERS[head.pixel_decoder_name](section, backbone)


def _deformable(section: ModelSection, backbone: Backbone) -> PixelDecoder:
    head = section.sem_seg_head
    missing = [name for name in head.deformable_transformer_encoder_in_features if name not in head.in_features]
    if missing:
        raise SpecError(
            f"model.sem_seg_head.deformable_transformer_encoder_in_features: {', '.join(missing)}: "
            f"in_features has {', '.join(head.in_features)}"
        )
    return DeformablePixelDecoder(
        channels=backbone.channels,
        strides=backbone.strides,
        features=head.in_features,
        encoder_features=head.deformable_transformer_encoder_in_features,
        common_stride=head.common_stride,
        dim=head.convs_dim,
        mask_dim=head.mask_dim,
        num_heads=section.one_former.nheads,
        num_layers=head.transformer_enc_layers,
        num_output_levels=section.one_former.num_feature_levels,
        dropout=section.one_former.dropout,
        norm=head.norm,
        precise=section.precise_msda,
    )


def _pyramid(section: ModelSection, backbone: Backbone, encoder: MapEncoder | None = None) -> PixelDecoder:
    head = section.sem_seg_head
    return PyramidPixelDecoder(
        channels=backbone.channels,
        strides=backbone.strides,
        features=head.in_features,
        common_stride=head.common_stride,
        dim=head.convs_dim,
        mask_dim=head.mask_dim,
        num_output_levels=section.one_former.num_feature_levels,
        norm=head.norm,
        encoder=encoder,
    )


def _encoded_pyramid(section: ModelSection, backbone: Backbone) -> PixelDecoder:
    head, decoder = section.sem_seg_head, section.one_former
    coarsest = max(head.in_features, key=lambda name: backbone.strides[name])
    encoder = MapEncoder(
        backbone.channels[coarsest],
        dim=head.convs_dim,
        num_heads=decoder.nheads,
        hidden=decoder.dim_feedforward,
        num_layers=head.transformer_enc_layers,
        dropout=decoder.dropout,
        pre_norm=decoder.pre_norm,
    )
    return _pyramid(section, backbone, encoder)


_PIXEL_DECODERS: Mapping[str, Callable[[ModelSection, Backbone], PixelDecoder]] = {
    "MSDeformAttnPixelDecoder": _deformable,
    "BasePixelDecoder": _pyramid,
    "TransformerEncoderPixelDecoder": _encoded_pyramid,
}


def _query_decoder(section: ModelSection) -> QueryDecoder:
    head, decoder = section.sem_seg_head, section.one_former
    class_transformer = ClassTransformer(
        decoder.hidden_dim,
        num_heads=decoder.nheads,
        hidden=decoder.dim_feedforward,
        encoder_layers=decoder.enc_layers,
        decoder_layers=decoder.class_dec_layers,
        dropout=decoder.dropout,
        pre_norm=decoder.pre_norm,
    )
    return QueryDecoder(
        dim=decoder.hidden_dim,
        in_dim=head.convs_dim,
        mask_dim=head.mask_dim,
        num_classes=head.num_classes,
        num_queries=decoder.num_object_queries,
        num_heads=decoder.nheads,
        hidden=decoder.dim_feedforward,
        num_predictions=decoder.dec_layers,
        num_levels=decoder.num_feature_levels,
        class_transformer=class_transformer,
        pre_norm=decoder.pre_norm,
        task_norm=decoder.use_task_norm,
        project_inputs=decoder.enforce_input_proj,
        query_init_std=decoder.query_init_std,
    )


def _text_branch(section: ModelSection) -> TextBranch:
    text = section.text_encoder
    encoder = TextEncoder(
        width=text.width,
        num_layers=text.num_layers,
        vocab_size=text.vocab_size,
        context_length=text.context_length,
        causal=text.causal,
    )
    return TextBranch(
        encoder,
        width=text.width,
        dim=section.one_former.hidden_dim,
        num_layers=text.proj_num_layers,
        num_context=text.n_ctx,
        temperature=section.one_former.contrastive_temperature,
    )
