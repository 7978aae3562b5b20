"""Options of the built-in backbones, `model.backbone.<name>.*`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from oneformer_spec.plugins.option import option

FEATURES = ("res2", "res3", "res4", "res5")


@dataclass(frozen=True)
class SwinOptions:
    """Swin Transformer."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7},
        "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24), "window_size": 7},
        "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "window_size": 12},
        "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48), "window_size": 12},
    }

    preset: str | None = option(
        None,
        choices=tuple(PRESETS),
        spec_only=True,
        help="Size that fills embed_dim, depths, num_heads and window_size; an option that is set wins.",
        common=True,
    )
    embed_dim: int = option(192, minimum=1, acts_when_set=True, help="Channels of the first stage.", common=True)
    depths: tuple[int, ...] = option(
        (2, 2, 18, 2), minimum=1, acts_when_set=True, min_length=1, help="Blocks of each stage.", common=True
    )
    num_heads: tuple[int, ...] = option(
        (6, 12, 24, 48), minimum=1, acts_when_set=True, min_length=1, help="Attention heads of each stage.", common=True
    )
    window_size: int = option(
        12, minimum=1, acts_when_set=True, help="Edge of an attention window in patches.", common=True
    )
    mlp_ratio: float = option(4.0, above=0, help="Width of a block's hidden layer over its channels.")
    qkv_bias: bool = option(True, help="Give queries, keys and values a bias.")
    qk_scale: float | None = option(None, above=0, help="Factor on queries times keys; null is 1 / sqrt(head size).")
    attn_drop_rate: float = option(0.0, minimum=0, maximum=1, help="Dropout probability of attention weights.")
    drop_rate: float = option(0.0, minimum=0, maximum=1, help="Dropout probability of features.")
    drop_path_rate: float = option(
        0.3,
        minimum=0,
        maximum=1,
        help="Probability of skipping the last block; earlier ones rise to it from 0.",
        common=True,
    )
    ape: bool = option(False, help="Add a learned absolute position to each patch.")
    patch_norm: bool = option(True, help="Normalise the patches after their embedding.")
    patch_size: int = option(4, minimum=1, help="Edge of a patch in pixels.")
    pretrain_img_size: int = option(384, minimum=1, help="Edge in pixels of the images that ape was trained on.")
    use_checkpoint: bool = option(False, help="Recompute activations in the backward pass to save memory.")
    out_features: tuple[str, ...] = option(
        FEATURES, choices=FEATURES, min_length=1, distinct=True, help="Levels that the backbone hands out."
    )
    out_indices: tuple[int, ...] = option(
        (0, 1, 2, 3),
        minimum=0,
        maximum=3,
        min_length=1,
        distinct=True,
        help="Stages handed out; i stands for res{i+2}.",
    )


@dataclass(frozen=True)
class DinatOptions:
    """Dilated neighbourhood attention transformer (DiNAT)."""

    embed_dim: int = option(192, minimum=1, help="Channels of the first stage.", common=True)
    mlp_ratio: float = option(2.0, above=0, help="Width of a block's hidden layer over its channels.")
    depths: tuple[int, ...] = option((3, 4, 18, 5), minimum=1, min_length=1, help="Blocks of each stage.", common=True)
    num_heads: tuple[int, ...] = option(
        (6, 12, 24, 48), minimum=1, min_length=1, help="Attention heads of each stage.", common=True
    )
    kernel_size: int = option(7, minimum=1, help="Edge of a neighbourhood in patches, odd.", common=True)
    drop_path_rate: float = option(
        0.3, minimum=0, maximum=1, help="Probability of skipping the last block; earlier ones rise to it from 0."
    )
    dilations: tuple[tuple[int, ...], ...] | None = option(
        None, minimum=1, help="Dilation of each block of each stage in patches; null dilates nowhere."
    )
    out_indices: tuple[int, ...] = option(
        (0, 1, 2, 3),
        minimum=0,
        maximum=3,
        min_length=1,
        distinct=True,
        help="Stages handed out; i stands for res{i+2}.",
    )
    out_features: tuple[str, ...] = option(
        FEATURES, choices=FEATURES, min_length=1, distinct=True, help="Levels that the backbone hands out."
    )
    use_checkpoint: bool = option(False, help="Recompute activations in the backward pass to save memory.")


@dataclass(frozen=True)
class EfficientVitOptions:
    """EfficientViT of MIT's Han Lab, as timm has it."""

    variant: str = option("b1", choices=("b0", "b1", "b2", "b3", "l1", "l2"), help="Size.", common=True)


@dataclass(frozen=True)
class TimmOptions:
    """Any model of timm; a plain vision transformer gets a feature pyramid."""

    name: str = option("convnext_tiny", help="Name of the timm model.", common=True)
    options: Mapping[str, Any] = option({}, help="Keyword options of that model.")
    pretrained: bool = option(
        False, help="Take weights from timm's hub; pretrained_weights is the way without a network.", common=True
    )
