"""Fields of the section `dataset`."""

from __future__ import annotations

from acts.observers import batches, caches, evaluation, loaders, opened, training
from acts.row import Row

AUGMENTATION = "dataset.augmentation"
TEST = tuple(
    f"dataset.test.{field}=$data/{name}"
    for field, name in (("images", "images/val"), ("annotations", "val.json"), ("panoptic", "panoptic/val"))
)
SHORTEST_EDGE = (f"{AUGMENTATION}.resize=shortest_edge", f"{AUGMENTATION}.train_min_size=[64]")
TURNED = "dataset.label_map=$data/label_map_turned.json"
OUTSIDE = ("dataset.val.annotations=$data/val_outside.json", "dataset.val.images=$data/images/train")

SPLITS = (
    # Without its folder of PNG maps a file is read as COCO instance; the format that is set asks for the folder.
    Row("dataset.train.type", "coco_panoptic", opened("train"), base=("dataset.train.panoptic=null",)),
    Row("dataset.train.images", "$data/images/train_mirrored", batches),
    Row("dataset.train.annotations", "$data/train_fewer.json", batches),
    Row("dataset.train.panoptic", "$data/panoptic/train_mirrored", batches),
    Row(
        "dataset.train.names",
        "[one, two]",
        batches,
        base=("dataset.train.annotations=[$data/train_fewer.json, $data/train_fewer.json]",),
    ),
    Row("dataset.train.batch_size", "1", batches),
    Row("dataset.train.num_workers", "1", loaders),
    Row("dataset.val.type", "coco_panoptic", opened("val"), base=("dataset.val.panoptic=null",)),
    Row("dataset.val.images", "$data/images/val_mirrored", training),
    Row("dataset.val.annotations", "$data/val_fewer.json", training),
    Row("dataset.val.panoptic", "$data/panoptic/train", evaluation, refusal="does not exist"),
    Row(
        "dataset.val.names",
        "[one, two]",
        evaluation,
        base=("dataset.val.annotations=[$data/val_fewer.json, $data/val_fewer.json]",),
    ),
    Row("dataset.val.batch_size", "2", training),
    Row("dataset.val.num_workers", "1", loaders),
    Row("dataset.test.type", "coco_panoptic", opened("test"), base=(*TEST, "dataset.test.panoptic=null")),
    Row("dataset.test.images", "$data/images/val_mirrored", evaluation, base=TEST),
    Row("dataset.test.annotations", "$data/val_fewer.json", evaluation, base=TEST),
    Row("dataset.test.panoptic", "$data/panoptic/train", evaluation, base=TEST, refusal="does not exist"),
    Row(
        "dataset.test.names",
        "[one, two]",
        evaluation,
        base=(
            *TEST,
            "dataset.test.annotations=[$data/val_fewer.json, $data/val_fewer.json]",
        ),
    ),
    Row("dataset.test.batch_size", "2", evaluation, base=TEST),
    Row("dataset.test.num_workers", "1", evaluation, base=TEST),
)
READING = (
    Row("dataset.label_map", "$data/label_map_turned.json", batches),
    Row("dataset.contiguous_id", "false", batches, base=(TURNED,)),
    Row("dataset.dataset_type", "serialized", caches),
    Row("dataset.workers", "1", loaders),
    Row("dataset.pin_memory", "false", loaders),
    Row("dataset.allow_outside_root", "true", opened("val"), base=OUTSIDE),
    Row("dataset.pixel_mean", "[100, 100, 100]", batches),
    Row("dataset.pixel_std", "[50, 50, 50]", batches),
    Row("dataset.image_size", "[64, 64]", training),
    Row("dataset.task_prob_train", "{panoptic: 1.0}", batches),
    Row("dataset.task_seq_len", "40", training),
    # Texts are cut to the longest of a batch where what follows their end changes nothing.
    Row(
        "dataset.max_seq_len",
        "40",
        batches,
        base=("model.text_encoder.causal=false",),
        together=("model.text_encoder.context_length=40",),
    ),
)
AUGMENTATIONS = (
    Row(f"{AUGMENTATION}.resize", "shortest_edge", batches),
    Row(f"{AUGMENTATION}.train_min_size", "[64, 96]", batches, base=SHORTEST_EDGE),
    Row(f"{AUGMENTATION}.train_max_size", "72", batches, base=SHORTEST_EDGE),
    Row(f"{AUGMENTATION}.train_crop_size", "[64, 96]", batches),
    Row(f"{AUGMENTATION}.test_min_size", "96", training),
    Row(f"{AUGMENTATION}.test_max_size", "64", training),
    Row(f"{AUGMENTATION}.fixed_padding", "false", batches, base=("dataset.min_scale=0.4", "dataset.max_scale=0.5")),
    Row(f"{AUGMENTATION}.flip_prob", "0.0", batches),
    Row(f"{AUGMENTATION}.color_prob", "0.0", batches),
    Row(f"{AUGMENTATION}.rotation_prob", "1.0", batches),
    Row(f"{AUGMENTATION}.blur_prob", "1.0", batches),
    Row(f"{AUGMENTATION}.extra", "['acts.plugin:negative']", batches),
    Row(f"{AUGMENTATION}.erasing_prob", "1.0", batches),
    Row("dataset.cutmix_prob", "1.0", batches),
    Row("dataset.min_scale", "1.0", batches),
    Row("dataset.max_scale", "1.0", batches),
)
ROWS = (*SPLITS, *READING, *AUGMENTATIONS)
