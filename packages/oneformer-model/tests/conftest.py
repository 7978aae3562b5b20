"""A tiny network of the real classes, and the manifest that describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from oneformer_model import OneFormer
from oneformer_model.build import build
from oneformer_spec.labels import Labels
from oneformer_spec.schema import BackboneSection, ModelSection, OneFormerSection, SemSegHead, SwinOptions, TextEncoder
from oneformer_spec.schema.tree import plain
from oneformer_spec.segmentation.frame import ShortestEdge
from oneformer_spec.segmentation.manifest import Manifest

CLASSES = [
    {"id": 1, "name": "nucleus", "isthing": 1, "color": [220, 20, 60]},
    {"id": 7, "name": "debris", "isthing": 1, "color": [60, 120, 60]},
    {"id": 9, "name": "background", "isthing": 0, "color": [60, 60, 60]},
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small networks are fastest on one thread, and sums come in one order."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


SWIN = SwinOptions(embed_dim=16, depths=(2, 1, 1, 1), num_heads=(2, 2, 4, 4), window_size=4, drop_path_rate=0.0)
SECTION = ModelSection(
    backbone=BackboneSection(sections={"swin": SWIN}),
    sem_seg_head=SemSegHead(num_classes=3, convs_dim=32, mask_dim=32, transformer_enc_layers=1),
    one_former=OneFormerSection(
        hidden_dim=32,
        nheads=4,
        dim_feedforward=64,
        dec_layers=3,
        class_dec_layers=1,
        num_object_queries=12,
        dropout=0.0,
    ),
    text_encoder=TextEncoder(width=32, num_layers=1, n_ctx=4),
)


@pytest.fixture
def section() -> Callable[..., ModelSection]:
    """The tiny network's `spec.model`; keywords replace fields of its sections."""

    def make(**changes: dict[str, Any]) -> ModelSection:
        parts = {name: replace(getattr(SECTION, name), **fields) for name, fields in changes.items() if name != "swin"}
        if "swin" in changes:
            backbone = parts.get("backbone", SECTION.backbone)
            parts["backbone"] = replace(backbone, sections={"swin": replace(SWIN, **changes["swin"])})
        return replace(SECTION, **parts)

    return make


@pytest.fixture
def model(section: Callable[..., ModelSection]) -> OneFormer:
    """The tiny network without its text branch, in eval mode."""
    return build(section(), training=False).eval()


@pytest.fixture
def training_model(section: Callable[..., ModelSection]) -> OneFormer:
    """The tiny network with its text branch, in training mode."""
    return build(section(), training=True)


@pytest.fixture
def manifest() -> Manifest:
    """What a checkpoint of the tiny network says about itself."""
    return Manifest(
        labels=Labels.parse(CLASSES, source="test"),
        model=plain(SECTION),
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        size=ShortestEdge(64, 96),
        divisibility=32,
    )
