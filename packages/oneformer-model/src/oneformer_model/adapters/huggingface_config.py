"""Convert between Hugging Face's `config.json` and the spec's section `model` with one table for both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oneformer_spec.errors import CheckpointError
from oneformer_spec.labels import Labels
from oneformer_spec.loading.dotted import get, has, put
from oneformer_spec.schema import ModelSection, SwinOptions
from oneformer_spec.schema.tree import plain

# Path in config.json -> path in `model`.
_FIELDS = {
    "num_queries": "one_former.num_object_queries",
    "hidden_dim": "one_former.hidden_dim",
    "num_attention_heads": "one_former.nheads",
    "dim_feedforward": "one_former.dim_feedforward",
    "decoder_layers": "one_former.dec_layers",
    "query_dec_layers": "one_former.class_dec_layers",
    "pre_norm": "one_former.pre_norm",
    "enforce_input_proj": "one_former.enforce_input_proj",
    "use_task_norm": "one_former.use_task_norm",
    "dropout": "one_former.dropout",
    "train_num_points": "one_former.train_num_points",
    "oversample_ratio": "one_former.oversample_ratio",
    "importance_sample_ratio": "one_former.importance_sample_ratio",
    "class_weight": "one_former.class_weight",
    "mask_weight": "one_former.mask_weight",
    "dice_weight": "one_former.dice_weight",
    "contrastive_weight": "one_former.contrastive_weight",
    "contrastive_temperature": "one_former.contrastive_temperature",
    "no_object_weight": "one_former.no_object_weight",
    "use_auxiliary_loss": "one_former.deep_supervision",
    "conv_dim": "sem_seg_head.convs_dim",
    "mask_dim": "sem_seg_head.mask_dim",
    "encoder_layers": "sem_seg_head.transformer_enc_layers",
    "common_stride": "sem_seg_head.common_stride",
    "norm": "sem_seg_head.norm",
    "ignore_value": "sem_seg_head.ignore_value",
    "text_encoder_width": "text_encoder.width",
    "text_encoder_context_length": "text_encoder.context_length",
    "text_encoder_num_layers": "text_encoder.num_layers",
    "text_encoder_vocab_size": "text_encoder.vocab_size",
    "text_encoder_proj_layers": "text_encoder.proj_num_layers",
    "text_encoder_n_ctx": "text_encoder.n_ctx",
    "backbone_config.embed_dim": "backbone.swin.embed_dim",
    "backbone_config.depths": "backbone.swin.depths",
    "backbone_config.num_heads": "backbone.swin.num_heads",
    "backbone_config.window_size": "backbone.swin.window_size",
    "backbone_config.mlp_ratio": "backbone.swin.mlp_ratio",
    "backbone_config.qkv_bias": "backbone.swin.qkv_bias",
    "backbone_config.attention_probs_dropout_prob": "backbone.swin.attn_drop_rate",
    "backbone_config.hidden_dropout_prob": "backbone.swin.drop_rate",
    "backbone_config.drop_path_rate": "backbone.swin.drop_path_rate",
    "backbone_config.patch_size": "backbone.swin.patch_size",
    "backbone_config.image_size": "backbone.swin.pretrain_img_size",
}
_SWIN_DEFAULTS = {**SwinOptions.PRESETS["tiny"], "drop_path_rate": 0.1, "pretrain_img_size": 224}  # Hugging Face's
# Fields of ours that affect neither tensors nor outputs, so a folder need not store them.
_SILENT = (
    "test.",
    "precise_msda",
    "text_encoder.causal",
    "one_former.size_divisibility",
    "sem_seg_head.num_classes",
    "sem_seg_head.loss_weight",
    "sem_seg_head.in_features",
    "backbone.freeze_at",
    "backbone.pretrained_weights",
    "backbone.swin.preset",
    "backbone.swin.use_checkpoint",
)
_STAGES = ["stage1", "stage2", "stage3", "stage4"]


def model_data(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Return `model` as plain data; what the config leaves out has Hugging Face's default.

    Raises:
        CheckpointError: It is no OneFormer with a Swin backbone.
    """
    kind = config.get("model_type")
    backbone = config.get("backbone_config")
    if kind != "oneformer":
        raise CheckpointError(f"{source}: model_type is {kind!r}, expected 'oneformer'")
    if not isinstance(backbone, Mapping) or backbone.get("model_type") != "swin":
        found = backbone.get("model_type") if isinstance(backbone, Mapping) else backbone
        raise CheckpointError(f"{source}: found the backbone {found!r}, expected 'swin'")
    data = plain(ModelSection())
    data["backbone"] = {"type": "swin", "swin": plain(SwinOptions(**_SWIN_DEFAULTS))}
    for their_path, our_path in _FIELDS.items():
        if has(config, their_path):
            put(data, our_path, get(config, their_path))
    put(data, "sem_seg_head.num_classes", num_classes(config))
    return data


def num_classes(config: Mapping[str, Any]) -> int:
    """Return the number of classes in a config."""
    names = config.get("id2label")
    return len(names) if isinstance(names, Mapping) else 2  # Hugging Face's default


def class_names(config: Mapping[str, Any]) -> list[str] | None:
    """Return the class names by index, or None if they are not numbered 0 … N - 1."""
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        return None
    try:
        return [str(names[str(index)]) for index in range(len(names))]
    except KeyError:
        return None


def config_of(section: ModelSection, labels: Labels, *, training: bool, task_length: int) -> dict[str, Any]:
    """Return the `config.json` of a model; `training` says whether its folder holds the text branch.

    Raises:
        ValueError: Hugging Face's OneFormer has no such network; the message names the fields.
    """
    data = plain(section)
    default = plain(ModelSection())
    unlike = [
        f"model.{path}"
        for path in _paths(data)
        if path not in _FIELDS.values() and not path.startswith(_SILENT) and get(data, path) != get(default, path)
    ]
    if unlike:
        raise ValueError(f"Hugging Face's OneFormer does not support these settings: {', '.join(unlike)}")
    config: dict[str, Any] = {}
    for their_path, our_path in _FIELDS.items():
        put(config, their_path, get(data, our_path))
    names = dict(enumerate(labels.names))
    swin = config["backbone_config"]
    width = swin["embed_dim"] * 2 ** (len(swin["depths"]) - 1)
    swin |= {"model_type": "swin", "out_features": _STAGES, "num_layers": len(swin["depths"]), "hidden_size": width}
    return {
        "model_type": "oneformer",
        "architectures": ["OneFormerForUniversalSegmentation"],
        "dtype": "float32",
        "is_training": training,
        "task_seq_len": task_length,
        "id2label": {str(index): name for index, name in names.items()},
        "label2id": {name: index for index, name in names.items()},
        **config,
    }


def _paths(data: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the paths of all values, but only Swin's among those of the backbones."""
    found: list[str] = []
    for key, value in data.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path.startswith("backbone.") and path != "backbone.swin":
            continue
        found += _paths(value, f"{path}.") if isinstance(value, Mapping) else [path]
    return found
