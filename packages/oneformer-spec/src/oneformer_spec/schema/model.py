"""Section `model`: the network, and the thresholds that turn its outputs into segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.plugins.entries import is_class_path, keywords, not_installed
from oneformer_spec.plugins.option import open_section, option, section

DETECTRON2_BACKBONES = {"D2SwinTransformer": "swin", "D2DiNAT": "dinat"}


@dataclass(frozen=True)
class BackboneSection:
    """The feature extractor: `type` chooses one of `sections`, which hold every backbone's options by its name."""

    type: str = option(
        "swin",
        names="backbone",
        class_path=True,
        spellings=DETECTRON2_BACKBONES,
        replaced=dict.fromkeys(("radio", "d2radio"), "RADIO is not available yet"),
        help="Name of the backbone, or the class path module:Class of one that no plugin registers.",
        common=True,
    )
    freeze_at: int = option(
        0, minimum=-1, help="Leading parts that are not trained: 1 is the stem, 2 the first stage too.", common=True
    )
    pretrained_weights: str | None = option(None, help="File with weights of the backbone alone.", common=True)
    class_options: Mapping[str, Any] = option({}, help="Keywords of a backbone that type names by its class path.")
    sections: Mapping[str, Any] = open_section("backbone")

    @property
    def options(self) -> Any:
        """The chosen backbone's options, a frozen dataclass.

        Raises:
            SpecError: It is not installed.
        """
        if self.type not in self.sections:
            raise SpecError(f"model.backbone.type: {not_installed('backbone', self.type)}")
        return self.sections[self.type]

    def keywords(self) -> dict[str, Any]:
        """Return the chosen backbone's options as the keywords that its target takes."""
        return dict(self.class_options) if is_class_path(self.type) else keywords(self.options)


@dataclass(frozen=True)
class SemSegHead:
    """The pixel decoder and the loss's class count."""

    name: str = option("OneFormerHead", choices=("OneFormerHead",), help="Kind of segmentation head.")
    num_classes: int = option(133, minimum=1, help="Number of classes, as many as label_map lists.", common=True)
    ignore_value: int = option(255, help="Class index of pixels that belong to no class.")
    loss_weight: float = option(1.0, minimum=0, help="Factor on the whole loss.")
    in_features: tuple[str, ...] = option(
        ("res3", "res4", "res5"),
        min_length=1,
        distinct=True,
        help="Backbone levels that the pixel decoder reads, beside those that lead to common_stride.",
    )
    deformable_transformer_encoder_in_features: tuple[str, ...] = option(
        ("res3", "res4", "res5"), min_length=1, distinct=True, help="Levels that the deformable encoder sees."
    )
    common_stride: int = option(4, minimum=2, help="Stride in pixels of the mask features.")
    transformer_enc_layers: int = option(
        6, minimum=1, help="Encoder layers of the pixel decoder; deformable ones are 1024 wide inside.", common=True
    )
    convs_dim: int = option(256, minimum=1, help="Channels of the pixel decoder.", common=True)
    mask_dim: int = option(256, minimum=1, help="Channels of the mask features and mask embeddings.", common=True)
    pixel_decoder_name: str = option(
        "MSDeformAttnPixelDecoder",
        choices=("MSDeformAttnPixelDecoder", "BasePixelDecoder", "TransformerEncoderPixelDecoder"),
        help="Kind of pixel decoder: with a deformable encoder, a pyramid alone, or one under a plain encoder.",
    )
    norm: str = option("GN", choices=("GN", "LN", "BN", "SyncBN"), help="Normalisation in the pixel decoder.")


@dataclass(frozen=True)
class OneFormerSection:
    """The query decoder and the weights of its losses."""

    hidden_dim: int = option(256, minimum=1, help="Channels of the queries.", common=True)
    nheads: int = option(8, minimum=1, help="Attention heads; they divide hidden_dim.", common=True)
    dim_feedforward: int = option(2048, minimum=1, help="Width of the decoder's feed-forward layers.", common=True)
    enc_layers: int = option(0, minimum=0, help="Encoder layers of the class transformer.")
    dec_layers: int = option(
        10, minimum=2, help="Prediction heads; there is one decoder layer less than heads.", common=True
    )
    class_dec_layers: int = option(2, minimum=1, help="Decoder layers of the class transformer.")
    num_object_queries: int = option(150, minimum=1, help="Queries, more than text_encoder.n_ctx.", common=True)
    query_init_std: float = option(
        1.0,
        above=0,
        help="Spread of fresh query positions; above the published 1, queries look at different places from the start.",
    )
    pre_norm: bool = option(False, help="Normalise before each attention and feed-forward layer instead of after.")
    enforce_input_proj: bool = option(
        False, help="Project the pixel decoder's features even where their channels fit already."
    )
    size_divisibility: int = option(32, minimum=1, help="Images are padded to multiples of this many pixels.")
    train_num_points: int = option(12544, minimum=1, help="Points per mask on which the mask losses are taken.")
    oversample_ratio: float = option(
        3.0, minimum=1, help="How many times train_num_points are drawn before the uncertain ones are chosen."
    )
    importance_sample_ratio: float = option(
        0.75, minimum=0, maximum=1, help="Part of the points chosen for uncertainty, the rest is random."
    )
    mask_weight: float = option(5.0, minimum=0, help="Weight of the mask's cross-entropy loss.")
    dice_weight: float = option(5.0, minimum=0, help="Weight of the dice loss.")
    class_weight: float = option(2.0, minimum=0, help="Weight of the classification loss.")
    contrastive_weight: float = option(0.5, minimum=0, help="Weight of the query-text contrastive loss.")
    contrastive_temperature: float = option(0.07, above=0, help="Temperature that the contrastive loss starts from.")
    no_object_weight: float = option(0.1, minimum=0, help="Weight of the class no object in the classification loss.")
    deep_supervision: bool = option(True, help="Take the losses after every decoder layer, not after the last alone.")
    dropout: float = option(
        0.1, minimum=0, maximum=1, help="Dropout probability in the pixel decoder and the class transformer."
    )
    transformer_decoder_name: str = option(
        "ContrastiveMultiScaleMaskedTransformerDecoder",
        choices=("ContrastiveMultiScaleMaskedTransformerDecoder",),
        help="Kind of query decoder.",
    )
    transformer_in_feature: str = option(
        "multi_scale_pixel_decoder",
        choices=("multi_scale_pixel_decoder",),
        help="Features that the query decoder attends to.",
    )
    use_task_norm: bool = option(True, help="Normalise the embedding of the task before the queries are made from it.")
    num_feature_levels: int = option(3, minimum=1, help="Levels of the pixel decoder that the queries attend to.")


@dataclass(frozen=True)
class TextEncoder:
    """The text branch, which exists in training alone."""

    context_length: int = option(77, minimum=8, help="Length in tokens of a text; equals dataset.max_seq_len.")
    vocab_size: int = option(49408, minimum=49408, help="Number of tokens that have an embedding.")
    width: int = option(256, minimum=1, help="Channels of the text encoder.", common=True)
    num_layers: int = option(6, minimum=1, help="Layers of the text encoder.", common=True)
    n_ctx: int = option(16, minimum=0, help="Learned context queries that stand beside the texts.", common=True)
    proj_num_layers: int = option(2, minimum=1, help="Layers of the projection of a text's features.")
    causal: bool = option(True, help="Let a token attend to earlier tokens only; false serves comparisons.")


@dataclass(frozen=True)
class PostProcessing:
    """From the network's outputs to segments."""

    object_mask_threshold: float = option(
        0.4,
        minimum=0,
        maximum=1,
        from_model=True,
        help="Lowest class probability that a segment is kept with.",
        common=True,
    )
    overlap_threshold: float = option(
        0.8,
        minimum=0,
        maximum=1,
        from_model=True,
        help="Lowest part of a mask that must stay visible for the segment to be kept.",
        common=True,
    )
    test_topk_per_image: int = option(
        100,
        minimum=1,
        from_model=True,
        help="Most instances per image, capped at queries times classes.",
        common=True,
    )
    semantic_on: bool = option(
        True, help="Accepted for compatibility, no effect.", no_effect="use evaluate.task or inference.mode"
    )
    instance_on: bool = option(
        False, help="Accepted for compatibility, no effect.", no_effect="use evaluate.task or inference.mode"
    )
    panoptic_on: bool = option(
        False, help="Accepted for compatibility, no effect.", no_effect="use evaluate.task or inference.mode"
    )
    detection_on: bool = option(
        False, help="Accepted for compatibility, no effect.", no_effect="use evaluate.task or inference.mode"
    )


@dataclass(frozen=True)
class ModelSection:
    """Everything that the network is built from."""

    backbone: BackboneSection = section(BackboneSection, help="The feature extractor.")
    sem_seg_head: SemSegHead = section(SemSegHead, help="The pixel decoder.")
    one_former: OneFormerSection = section(OneFormerSection, help="The query decoder and its losses.")
    text_encoder: TextEncoder = section(TextEncoder, help="The text branch of training.")
    test: PostProcessing = section(PostProcessing, help="From outputs to segments.")
    precise_msda: bool = option(False, help="Compute deformable attention in 32 bit whatever train.precision.")
