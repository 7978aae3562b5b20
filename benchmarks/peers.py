"""The peers of the benchmarks, at their best documented settings: development tools, never dependencies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

QUERIES, CLASSES, CONTEXT = 150, 133, 16
SWIN_TINY = {
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def hugging_face(*, training: bool) -> nn.Module:
    """Return transformers' OneFormer with Swin-T for 133 classes and 150 queries, random weights.

    Its backbone takes fused attention, the whole model does not. Outputs and texts of training are on in training only.
    """
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    swin = SwinConfig(**SWIN_TINY, attn_implementation="sdpa")
    config = OneFormerConfig(backbone_config=swin, is_training=training, num_queries=QUERIES, num_labels=CLASSES)
    model: nn.Module = OneFormerForUniversalSegmentation(config)
    return model.train(training)


def hugging_face_loss(
    model: nn.Module, image: Tensor, tasks: Tensor, texts: Tensor, masks: list[Tensor], labels: list[Tensor]
) -> Tensor:
    """Return the peer's training loss; `texts` (B, T, L), each image's own texts in full."""
    output = model(pixel_values=image, task_inputs=tasks, text_inputs=texts, mask_labels=masks, class_labels=labels)
    loss: Tensor = output.loss
    return loss.sum()


def squares(count: int, size: int) -> Tensor:
    """Return masks of `count` squares in different places, float32 (count, size, size)."""
    masks = torch.zeros(count, size, size)
    edge = size // 4
    for number, mask in enumerate(masks):
        top, left = (number * 3 % 7) * size // 8, (number * 5 % 7) * size // 8
        mask[top : top + edge, left : left + edge] = 1.0
    return masks
