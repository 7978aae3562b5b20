"""From the spec's section `model` to the network: the only reader of the spec among the modules."""

from __future__ import annotations

from typing import cast

from torch import nn

from oneformer_model.backbones import Backbone, Initialising, Recomputing, Staged
from oneformer_model.oneformer import OneFormer, TaskEncoder
from oneformer_model.pixel_decoder import DeformablePixelDecoder
from oneformer_model.query_decoder import QueryDecoder
from oneformer_model.text_encoder import TextBranch, TextEncoder
from oneformer_model.transformer import ClassTransformer
from oneformer_spec import hooks
from oneformer_spec.builtins import oneformer_backbones
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.plugins import registry, resolve
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
        dim = section.one_former.hidden_dim
        model = OneFormer(
            cast(nn.Module, backbone),
            pixel_decoder,
            _query_decoder(section),
            TaskEncoder(task_length, dim, dim, _TASK_LAYERS),
            _text_branch(section) if training else None,
        )
        if training:
            model.freeze(_frozen(section, backbone))
        if activation_checkpoint:
            _recompute(model, backbone, pixel_decoder)
    except ValueError as error:
        raise SpecError(f"model: {error}") from error
    return model


def initialise_backbone(model: OneFormer, section: ModelSection) -> list[str]:
    """Give a freshly built model's backbone the trained weights that the spec names, if it names any.

    Returns:
        What a user should know of it, one line each.

    Raises:
        SpecError: A file is named and the backbone reads none.
        CheckpointError: The weights cannot be had or do not fit.
    """
    path = section.backbone.pretrained_weights
    if isinstance(model.backbone, Initialising):
        return model.backbone.initialise(path)
    if path is not None:
        raise SpecError(f"model.backbone.pretrained_weights: the backbone {section.backbone.type} reads no such files")
    return []


def backbone_declarations() -> dict[str, hooks.Backbone]:
    """Return every backbone by name, built in or brought by a plugin."""
    return {backbone.name: backbone for backbone in oneformer_backbones()} | dict(registry().backbones)


def _backbone(section: ModelSection) -> Backbone:
    name = section.backbone.type
    declarations = backbone_declarations()
    if name not in declarations:
        raise SpecError(
            f"model.backbone.type: {name!r} is not installed here; known: {', '.join(sorted(declarations))}"
        )
    try:
        backbone = resolve(declarations[name].target)(**section.backbone.keywords())
    except ValueError as error:
        raise SpecError(f"model.backbone.{name}: {error}") from error
    if not isinstance(backbone, Backbone):
        raise PluginError(f"backbone {name}: {type(backbone).__name__} has no `channels` and `strides`")
    return backbone


def _frozen(section: ModelSection, backbone: Backbone) -> list[nn.Module]:
    """Return the leading parts that `freeze_at` counts: 1 is the stem, 2 the first stage too."""
    count, name = section.backbone.freeze_at, section.backbone.type
    if count <= 0:
        return []
    if not isinstance(backbone, Staged):
        raise SpecError(f"model.backbone.freeze_at: the backbone {name} does not tell its stages; set 0")
    parts = list(backbone.stem_and_stages())
    if count > len(parts):
        raise SpecError(f"model.backbone.freeze_at: found {count}, {name} has {len(parts)} parts, the stem included")
    return parts[:count]


def _recompute(model: OneFormer, backbone: Backbone, pixel_decoder: DeformablePixelDecoder) -> None:
    """Recompute activations in the backward pass: block by block where the backbone can, else of all of it."""
    pixel_decoder.use_checkpoint = True
    if isinstance(backbone, Recomputing):
        backbone.set_grad_checkpointing(True)
    else:
        model.recompute_backbone = True


def _pixel_decoder(section: ModelSection, backbone: Backbone) -> DeformablePixelDecoder:
    head = section.sem_seg_head
    missing = [name for name in head.in_features if name not in backbone.channels]
    if missing:
        raise SpecError(
            f"model.sem_seg_head.in_features: {', '.join(missing)}: the backbone gives {', '.join(backbone.channels)}"
        )
    return DeformablePixelDecoder(
        channels=backbone.channels,
        strides=backbone.strides,
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
