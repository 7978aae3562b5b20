"""The published recipes: each is valid as it stands, and trains two steps with its whole structure at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec
from oneformer_train.command import run

RECIPES = ("coco", "ade20k", "cityscapes")
SIZES = ("swin_tiny", "swin_large")
# As many layers, heads and queries as the recipe says, but narrow and on small crops.
NARROW = (
    "model.backbone.pretrained_weights=null",
    "model.backbone.swin.window_size=4",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=32",
    "model.one_former.hidden_dim=32",
    "model.one_former.dim_feedforward=32",
    "model.one_former.train_num_points=64",
    "model.text_encoder.width=16",
    "dataset.augmentation.train_crop_size=[64,64]",
    "dataset.augmentation.test_min_size=64",
    "dataset.augmentation.test_max_size=64",
    "dataset.workers=0",
    "dataset.train.num_workers=0",
    "dataset.val.num_workers=0",
    "dataset.train.batch_size=1",
    "train.accumulate_grad_batches=1",
    "train.is_dry_run=true",
    "wandb.enable=false",
)
CHANNELS = {"swin_tiny": 12, "swin_large": 48}  # the recipe's number of heads divides them


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures of noise, halved between the first and the last category of the label map that is asked for."""
    for name in ("images", "panoptic"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    ids = np.zeros((64, 64, 3), dtype=np.uint8)
    ids[:32, :, 0], ids[32:, :, 0] = 1, 2
    for number in (1, 2, 3):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(ids).save(tmp_path / f"panoptic/{number}.png")
    return tmp_path


def annotate(data: Path, labels: Labels) -> str:
    segments = [{"id": n, "category_id": labels[i].id, "iscrowd": 0} for n, i in ((1, 0), (2, -1))]
    document = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 64, "width": 64} for n in (1, 2, 3)],
        "annotations": [{"image_id": n, "file_name": f"{n}.png", "segments_info": segments} for n in (1, 2, 3)],
        "categories": labels.rows(),
    }
    path = data / "panoptic.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_sees_as_many_images_as_published(repository: Path, name: str, size: str) -> None:
    spec = load_spec([repository / "examples" / name / f"{size}.yaml"]).spec
    assert spec.dataset.train.batch_size * spec.train.num_gpus * spec.train.accumulate_grad_batches == 16


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains(
    repository: Path,
    data: Path,
    name: str,
    size: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repository)  # the recipe's paths begin there
    torch.set_num_threads(1)
    recipe = repository / "examples" / name / f"{size}.yaml"
    labels = Labels.read(load_spec([recipe]).spec.dataset.label_map)
    files = {"images": data / "images", "annotations": annotate(data, labels), "panoptic": data / "panoptic"}
    places = [f"dataset.{split}.{key}={path}" for split in ("train", "val") for key, path in files.items()]
    width = f"model.backbone.swin.embed_dim={CHANNELS[size]}"
    words = [f"results_dir={data / 'results'}", width, *NARROW, *places]
    if size == "swin_large":
        words.append("model.backbone.swin.depths=[2,2,3,2]")  # 15 of the third stage's 18 blocks are alike
    spec = load_spec([recipe], words, task="train").spec
    assert len(labels) == spec.model.sem_seg_head.num_classes
    run(spec)
    assert "dry run: 2 steps went well" in capsys.readouterr().out
    assert not (data / "results").exists()


@pytest.mark.parametrize(
    ("name", "classes", "things"), [("coco", 133, 80), ("ade20k", 150, 100), ("cityscapes", 19, 8)]
)
def test_the_label_maps_are_those_of_the_benchmarks(repository: Path, name: str, classes: int, things: int) -> None:
    labels = Labels.read(repository / "examples" / name / "label_map.json")
    assert (len(labels), sum(label.isthing for label in labels)) == (classes, things)
