"""A tiny network and a few small pictures: the settings that every row starts from."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from oneformer_data.opening.loading import read_labels
from oneformer_model.build import build
from oneformer_model.weights import checkpoint
from oneformer_spec.loading.load import load_spec
from oneformer_spec.segmentation.manifest import Manifest

SETTINGS = (
    "results_dir=$run/results",
    "wandb.enable=false",
    "model.backbone.swin.embed_dim=8",
    "model.backbone.swin.depths=[1,1,1,2]",
    "model.backbone.swin.num_heads=[1,1,2,2]",
    "model.sem_seg_head.num_classes=2",
    "model.sem_seg_head.convs_dim=32",
    "model.sem_seg_head.mask_dim=16",
    "model.sem_seg_head.transformer_enc_layers=1",
    "model.one_former.hidden_dim=32",
    "model.one_former.nheads=2",
    "model.one_former.dim_feedforward=32",
    "model.one_former.dec_layers=3",
    "model.one_former.class_dec_layers=1",
    "model.one_former.num_object_queries=20",
    "model.one_former.train_num_points=64",
    "model.text_encoder.width=8",
    "model.text_encoder.num_layers=1",
    "dataset.label_map=$data/label_map.json",
    "dataset.train.images=$data/images/train",
    "dataset.train.annotations=$data/train.json",
    "dataset.train.panoptic=$data/panoptic/train",
    "dataset.train.batch_size=2",
    "dataset.val.images=$data/images/val",
    "dataset.val.annotations=$data/val.json",
    "dataset.val.panoptic=$data/panoptic/val",
    "dataset.workers=0",
    "dataset.augmentation.train_crop_size=[64,64]",
    "dataset.augmentation.test_min_size=64",
    "dataset.augmentation.test_max_size=96",
    "train.num_epochs=1",
    "train.iters_per_epoch=2",
    "evaluate.checkpoint=$model",
    "inference.checkpoint=$model",
    "inference.images_dir=$data/images/val",
    "export.checkpoint=$model",
    "export.input_width=64",
    "export.input_height=64",
)

MARGIN = 64  # pixels added to the width of every picture


def copy_data(source: Path, folder: Path) -> None:
    """Put four training and two validation images of an example into a folder, made wider than high.

    Beside them lie variants that a field can point to: mirrored and inverted pictures, fewer pictures, names that
    leave their folder, classes in another order, three classes.
    """
    rows = json.loads((source / "label_map.json").read_text())
    _write(folder / "label_map.json", rows)
    _write(folder / "label_map_turned.json", rows[::-1])
    _write(folder / "label_map_three.json", [*rows, rows[0] | {"id": 3, "name": "cell wall"}])
    for split, count in (("train", 4), ("val", 2)):
        document = json.loads((source / "annotations" / f"panoptic_{split}.json").read_text())
        kept = _cut(document, count)
        for image in kept["images"]:
            image["width"] += MARGIN
        _write(folder / f"{split}.json", kept)
        _write(folder / f"{split}_fewer.json", _cut(kept, count - 1))
        outside = [image | {"file_name": f"../{split}/{image['file_name']}"} for image in kept["images"]]
        _write(folder / f"{split}_outside.json", {**kept, "images": outside})
        for kind, listed in (("images", kept["images"]), ("panoptic", kept["annotations"])):
            plain, mirrored = folder / kind / split, folder / kind / f"{split}_mirrored"
            for target in (plain, mirrored):
                target.mkdir(parents=True)
            for row in listed:
                picture = _widened(Image.open(source / kind / split / row["file_name"]))
                picture.save(plain / row["file_name"])
                ImageOps.mirror(picture).save(mirrored / row["file_name"])
    bright = folder / "images" / "val_bright"
    bright.mkdir()
    for path in (folder / "images" / "val").iterdir():
        ImageOps.invert(Image.open(path)).save(bright / path.name)


def save_model(words: tuple[str, ...], path: Path, *, seed: int) -> None:
    """Write a checkpoint of the settings' network: random weights with class logits that tell queries apart."""
    spec = load_spec([], words).spec
    torch.manual_seed(seed)
    model = build(spec.model, training=True)
    with torch.no_grad():
        model.query_decoder.class_head.weight.mul_(2)
    manifest = Manifest.from_spec(spec, read_labels(spec), {})
    checkpoint.save(path, state_dict=model.state_dict(), manifest=manifest)


def write_graph(repository: Path, path: Path) -> Path:
    """Write the ONNX file of four operators that the tests of oneformer-deploy use."""
    source = repository / "packages" / "oneformer-deploy" / "tests" / "tiny_onnx.py"
    description = importlib.util.spec_from_file_location("tiny_onnx", source)
    assert description is not None and description.loader is not None
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    written: Path = module.write_model(path, image=("batch", 3, 64, 64), length=77)
    return written


def _cut(document: dict[str, Any], count: int) -> dict[str, Any]:
    images = document["images"][:count]
    kept = {image["id"] for image in images}
    rows = [row for row in document["annotations"] if row["image_id"] in kept]
    return {**document, "images": images, "annotations": rows}


def _widened(picture: Image.Image) -> Image.Image:
    """Return a picture with a black margin at its right: of no class, where it is a map of ids."""
    return ImageOps.expand(picture.convert("RGB"), (0, 0, MARGIN, 0))


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
