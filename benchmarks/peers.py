"""The peers of the benchmarks, at their best documented settings: development tools, never dependencies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
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


class HuggingFaceProcessor:
    """transformers' image processor of OneFormer and its post-processing."""

    def __init__(self, folder: Path, size: int, num_things: int) -> None:
        """Scale images to `size` pixels; the first `num_things` classes are things; `folder` takes a file."""
        from transformers import OneFormerImageProcessor

        folder.mkdir(parents=True, exist_ok=True)
        names = {str(number): {"name": f"class {number}", "isthing": number < num_things} for number in range(CLASSES)}
        (folder / "classes.json").write_text(json.dumps(names))
        edges = {"shortest_edge": size, "longest_edge": size}
        self.processor = OneFormerImageProcessor(repo_path=str(folder), class_info_file="classes.json", size=edges)
        self.stuff = set(range(num_things, CLASSES))

    def encode(self, image: Image.Image) -> Tensor:
        """Return the network's input, (1, 3, H, W)."""
        pixels: Tensor = self.processor.preprocess([image], return_tensors="pt").pixel_values
        return pixels

    def decode(self, output: Any, task: str, size: tuple[int, int]) -> object:
        """Post-process a model's output at a picture's size (height, width)."""
        if task == "semantic":
            return self.processor.post_process_semantic_segmentation(output, [size])
        if task == "instance":
            return self.processor.post_process_instance_segmentation(output, is_demo=False, target_sizes=[size])
        return self.processor.post_process_panoptic_segmentation(
            output, threshold=0.4, label_ids_to_fuse=self.stuff, target_sizes=[size]
        )


def hugging_face_pipeline(folder: Path, processor: HuggingFaceProcessor) -> Callable[[Path, str, Tensor], object]:
    """Return what segments the image of a file under a task; `tokens` (1, L) stand for the tokenizer's work."""
    from transformers import OneFormerForUniversalSegmentation

    model = OneFormerForUniversalSegmentation.from_pretrained(folder).eval()

    def run(path: Path, task: str, tokens: Tensor) -> object:
        image = Image.open(path).convert("RGB")
        with torch.inference_mode():
            output = model(pixel_values=processor.encode(image), task_inputs=tokens)
            return processor.decode(output, task, (image.height, image.width))

    return run


def semantic_of_full_size(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return class indices (H, W) in the published order: masks (1, Q, h, w) to the image's size, then the product."""
    masks = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False).sigmoid()
    return torch.einsum("bqc,bqhw->bchw", class_logits.softmax(-1)[..., :-1], masks).argmax(1)[0]
