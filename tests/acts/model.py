"""Fields of the section `model`."""

from __future__ import annotations

from acts.observers import inference, kept_for_backward, load, network, training
from acts.row import Row

SWIN = "model.backbone.swin"
DINAT = "model.backbone.dinat"
TIMM = "model.backbone.timm"
HEAD = "model.sem_seg_head"
QUERIES = "model.one_former"
TEXT = "model.text_encoder"
TEST = "model.test"

BACKBONE = (
    Row("model.backbone.freeze_at", "1", network),
    Row("model.backbone.pretrained_weights", "$model", training),
    Row(f"{SWIN}.preset", "tiny", network),
    Row(f"{SWIN}.embed_dim", "16", network),
    Row(f"{SWIN}.depths", "[1, 1, 1, 1]", network),
    Row(f"{SWIN}.num_heads", "[2, 2, 2, 2]", network),
    Row(f"{SWIN}.window_size", "4", network),
    Row(f"{SWIN}.mlp_ratio", "2.0", network),
    Row(f"{SWIN}.qkv_bias", "false", network),
    Row(f"{SWIN}.qk_scale", "0.1", network),
    Row(f"{SWIN}.attn_drop_rate", "0.5", network),
    Row(f"{SWIN}.drop_rate", "0.5", network),
    Row(f"{SWIN}.drop_path_rate", "0.9", network),
    Row(f"{SWIN}.ape", "true", network),
    Row(f"{SWIN}.patch_norm", "false", network),
    Row(f"{SWIN}.patch_size", "2", network),
    Row(f"{SWIN}.pretrain_img_size", "64", network, base=(f"{SWIN}.ape=true",)),
    Row(f"{SWIN}.use_checkpoint", "true", kept_for_backward, base=("train.activation_checkpoint=false",)),
    Row(f"{SWIN}.out_features", "[res3, res4, res5]", network, base=(f"{HEAD}.common_stride=8",)),
    Row(f"{SWIN}.out_indices", "[1, 2, 3]", network, base=(f"{HEAD}.common_stride=8",)),
)
SMALL_DINAT = (
    "model.backbone.type=dinat",
    f"{DINAT}.embed_dim=8",
    f"{DINAT}.depths=[2, 1, 1, 1]",
    f"{DINAT}.num_heads=[1, 1, 1, 1]",
    f"{DINAT}.kernel_size=3",
)
SMALL_TIMM = ("model.backbone.type=timm", f"{TIMM}.name=convnext_atto", f"{TIMM}.options={{depths: [1, 1, 1, 1]}}")
OTHER_BACKBONES = (
    Row("model.backbone.type", "dinat", network, base=SMALL_DINAT[1:]),
    Row(
        "model.backbone.class_options",
        "{variant: b0}",
        network,
        base=("model.backbone.type=oneformer_model.backbones.timm_backbones:efficientvit",),
    ),
    Row(f"{DINAT}.embed_dim", "16", network, base=SMALL_DINAT),
    Row(f"{DINAT}.mlp_ratio", "3.0", network, base=SMALL_DINAT),
    Row(f"{DINAT}.depths", "[2, 2, 1, 1]", network, base=SMALL_DINAT),
    Row(f"{DINAT}.num_heads", "[2, 2, 2, 2]", network, base=SMALL_DINAT),
    Row(f"{DINAT}.kernel_size", "5", network, base=SMALL_DINAT),
    Row(f"{DINAT}.drop_path_rate", "0.9", network, base=SMALL_DINAT),
    Row(f"{DINAT}.dilations", "[[1, 2], [1], [1], [1]]", network, base=SMALL_DINAT),
    Row(f"{DINAT}.out_features", "[res3, res4, res5]", network, base=(*SMALL_DINAT, f"{HEAD}.common_stride=8")),
    Row(f"{DINAT}.out_indices", "[1, 2, 3]", network, base=(*SMALL_DINAT, f"{HEAD}.common_stride=8")),
    Row(
        f"{DINAT}.use_checkpoint",
        "true",
        kept_for_backward,
        base=(*SMALL_DINAT, "train.activation_checkpoint=false"),
    ),
    Row("model.backbone.efficientvit.variant", "b0", network, base=("model.backbone.type=efficientvit",)),
    Row(f"{TIMM}.name", "convnext_femto", network, base=SMALL_TIMM),
    Row(f"{TIMM}.options", "{depths: [1, 1, 2, 1]}", network, base=SMALL_TIMM),
    Row(
        f"{TIMM}.pretrained",
        "true",
        training,
        base=("model.backbone.type=timm", f"{TIMM}.name=convnext_atto_rms"),
        refusal="timm's hub gave no weights of convnext_atto_rms",
    ),
)
DECODERS = (
    Row(f"{HEAD}.name", "OtherHead", load, refusal=f"{HEAD}.name"),
    # The network observer does not read the label map, which has to agree.
    Row(f"{HEAD}.num_classes", "3", network, together=("dataset.label_map=",)),
    Row(f"{HEAD}.loss_weight", "2.0", training),
    Row(f"{HEAD}.pixel_decoder_name", "BasePixelDecoder", network),
    Row(f"{HEAD}.in_features", "[res4, res5]", load, refusal="res3 is not in in_features"),
    Row(f"{HEAD}.deformable_transformer_encoder_in_features", "[res4, res5]", network),
    Row(f"{HEAD}.common_stride", "8", network),
    Row(f"{HEAD}.transformer_enc_layers", "2", network),
    Row(f"{HEAD}.convs_dim", "16", network),
    Row(f"{HEAD}.mask_dim", "8", network),
    Row(f"{HEAD}.norm", "LN", network),
    Row(f"{QUERIES}.hidden_dim", "64", network),
    Row(f"{QUERIES}.nheads", "4", network),
    Row(f"{QUERIES}.dim_feedforward", "64", network),
    Row(f"{QUERIES}.enc_layers", "1", network),
    Row(f"{QUERIES}.dec_layers", "4", network),
    Row(f"{QUERIES}.class_dec_layers", "2", network),
    Row(f"{QUERIES}.num_object_queries", "30", network),
    Row(f"{QUERIES}.query_init_std", "4.0", network),
    Row(f"{QUERIES}.pre_norm", "true", network),
    Row(f"{QUERIES}.enforce_input_proj", "true", network),
    Row(f"{QUERIES}.size_divisibility", "48", training),
    Row(f"{QUERIES}.dropout", "0.5", network),
    Row(f"{QUERIES}.transformer_decoder_name", "Other", load, refusal=f"{QUERIES}.transformer_decoder_name"),
    Row(f"{QUERIES}.transformer_in_feature", "other", load, refusal=f"{QUERIES}.transformer_in_feature"),
    Row(f"{QUERIES}.use_task_norm", "false", network),
    Row(f"{QUERIES}.num_feature_levels", "2", network),
    Row("model.precise_msda", "true", training, base=("train.precision=bf16",)),
)
LOSSES = (
    Row(f"{QUERIES}.train_num_points", "32", training),
    Row(f"{QUERIES}.oversample_ratio", "2.0", training),
    Row(f"{QUERIES}.importance_sample_ratio", "0.5", training),
    Row(f"{QUERIES}.mask_weight", "1.0", training),
    Row(f"{QUERIES}.dice_weight", "1.0", training),
    Row(f"{QUERIES}.class_weight", "1.0", training),
    Row(f"{QUERIES}.no_object_weight", "0.5", training),
    Row(f"{QUERIES}.contrastive_weight", "1.0", training),
    Row(f"{QUERIES}.contrastive_temperature", "0.1", network),
    Row(f"{QUERIES}.deep_supervision", "false", training),
)
TEXTS = (
    # The network observer does not read the length of the data's texts, which has to agree.
    Row(f"{TEXT}.context_length", "40", network, together=("dataset.max_seq_len=40",)),
    Row(f"{TEXT}.vocab_size", "50000", network),
    Row(f"{TEXT}.width", "16", network),
    Row(f"{TEXT}.num_layers", "2", network),
    Row(f"{TEXT}.n_ctx", "4", network),
    Row(f"{TEXT}.proj_num_layers", "3", network),
    Row(f"{TEXT}.causal", "false", network),
)
PANOPTIC = ("inference.mode=panoptic", f"{TEST}.object_mask_threshold=0.0")
RESULTS = (
    Row(f"{TEST}.object_mask_threshold", "0.9", inference, base=PANOPTIC),
    Row(f"{TEST}.overlap_threshold", "0.0", inference, base=PANOPTIC),
    Row(f"{TEST}.test_topk_per_image", "1", inference, base=("inference.mode=instance",)),
)
ROWS = (*BACKBONE, *OTHER_BACKBONES, *DECODERS, *LOSSES, *TEXTS, *RESULTS)
