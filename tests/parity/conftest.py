"""Hugging Face's model with random weights, saved by itself: what ours is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

CLASSES = 5
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL_SWIN = {"embed_dim": 16, "depths": [2, 1, 2, 1], "num_heads": [2, 2, 4, 4], "window_size": 4}
SMALL = {
    "num_queries": 20,
    "hidden_dim": 64,
    "mask_dim": 64,
    "conv_dim": 64,
    "num_attention_heads": 4,
    "dim_feedforward": 96,
    "decoder_layers": 5,
    "encoder_layers": 2,
    "query_dec_layers": 2,
    "text_encoder_width": 64,
    "text_encoder_num_layers": 2,
    "text_encoder_n_ctx": 4,
    "train_num_points": 200,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums come in one order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def hugging_face() -> Callable[..., Any]:
    """Build Hugging Face's model from its own config, with the weights that it draws.

    For training they are moved a little: sampling offsets start at whole pixels, which are the kinks of bilinear
    interpolation, where a gradient has two values.
    """
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    def make(*, training: bool, seed: int = 0, swin: dict[str, Any] | None = None, **options: Any) -> Any:
        torch.manual_seed(seed)
        backbone = SwinConfig(out_features=STAGES, drop_path_rate=0.0, **(swin or {}))
        config = OneFormerConfig(
            backbone_config=backbone, is_training=training, num_labels=CLASSES, dropout=0.0, **options
        )
        model = OneFormerForUniversalSegmentation(config).train(training)
        if training:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        return model

    return make


@pytest.fixture(scope="session")
def small_options() -> dict[str, Any]:
    """The sizes of a small model."""
    return {**SMALL, "swin": SMALL_SWIN}


@pytest.fixture(scope="session")
def small(hugging_face: Callable[..., Any], small_options: dict[str, Any]) -> Any:
    """A small model for inference."""
    return hugging_face(training=False, **small_options)


@pytest.fixture(scope="session")
def swin_tiny(hugging_face: Callable[..., Any]) -> Any:
    """The published sizes with the smallest backbone."""
    return hugging_face(training=False)


@pytest.fixture(scope="session", params=["small", "swin_tiny"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model, and the folder that its own `save_pretrained` wrote."""
    model = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder
