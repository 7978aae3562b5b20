"""A tiny panoptic data set and a spec that trains on it in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CATEGORIES = [
    {"id": 1, "name": "square", "isthing": 1, "color": [220, 20, 60]},
    {"id": 2, "name": "ground", "isthing": 0, "color": [60, 60, 60]},
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small networks are fastest on one thread, and sums come in one order."""
    torch.set_num_threads(1)


def _write_picture(folder: Path, number: int, rng: np.random.Generator) -> tuple[dict[str, object], dict[str, object]]:
    ids = np.full((48, 64), 900, dtype=np.int32)
    for segment, (top, left) in enumerate(((4, 6), (24, 38)), start=1):
        top, left = top + int(rng.integers(6)), left + int(rng.integers(6))
        ids[top : top + 14, left : left + 14] = segment
    picture = np.where((ids < 900)[..., None], [220, 60, 60], [30, 30, 30]) + rng.integers(0, 20, (48, 64, 3))
    Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{number}.png")
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "panoptic" / f"{number}.png")
    segments = [{"id": i, "category_id": 1 if i < 900 else 2, "iscrowd": 0} for i in np.unique(ids).tolist()]
    image = {"id": number, "file_name": f"{number}.png", "height": 48, "width": 64}
    return image, {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}


def make_data(root: Path) -> Path:
    """Return a folder with six pictures of two red squares on dark ground."""
    folder = root / "data"
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = zip(*(_write_picture(folder, number, rng) for number in range(1, 7)), strict=True)
    document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "panoptic.json").write_text(json.dumps(document))
    (folder / "label_map.json").write_text(json.dumps(CATEGORIES))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with six pictures."""
    return make_data(tmp_path)


@pytest.fixture
def spec_file(data: Path) -> Path:
    """A spec beside the data."""
    return write_spec(data)


@pytest.fixture(scope="session")
def make_spec() -> Callable[[Path], Path]:
    """Return a function that makes data and spec in a folder."""
    return lambda root: write_spec(make_data(root))


def write_spec(data: Path) -> Path:
    """Write a spec beside the data: two epochs of three batches of two pictures."""
    files = {"images": f"{data}/images", "annotations": f"{data}/panoptic.json", "panoptic": f"{data}/panoptic"}
    split = {**files, "batch_size": 2, "num_workers": 0}
    swin = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 2, 2, 2], "window_size": 4, "drop_path_rate": 0.1}
    queries = {"hidden_dim": 32, "nheads": 2, "dim_feedforward": 32, "dec_layers": 2, "num_object_queries": 20}
    spec = {
        "results_dir": f"{data.parent}/results",
        "dataset": {
            "label_map": f"{data}/label_map.json",
            "train": split,
            "val": split,
            "augmentation": {"train_crop_size": [64, 64], "test_min_size": 48, "test_max_size": 64},
            "min_scale": 0.8,
            "max_scale": 1.2,
        },
        "model": {
            "backbone": {"swin": swin},
            "sem_seg_head": {"num_classes": 2, "convs_dim": 32, "mask_dim": 32, "transformer_enc_layers": 1},
            "one_former": {**queries, "train_num_points": 128},
            "text_encoder": {"width": 8, "num_layers": 1},
        },
        "train": {
            "num_epochs": 2,
            "activation_checkpoint": False,
            "optim": {"lr": 1e-3, "backbone_multiplier": 1.0, "lr_scheduler": "WarmupPoly", "warmup_iters": 2},
        },
    }
    path = data.parent / "spec.json"
    path.write_text(json.dumps(spec))
    return path
