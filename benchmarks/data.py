"""Data: the training pipeline, panoptic quality, and annotation files of COCO's size.

    python benchmarks/data.py pipeline --data ../shared/data/coco_pan100
    python benchmarks/data.py pq
    python benchmarks/data.py annotations

`pipeline`: training samples per second on one core at a 640 crop, against a mapper that works as detectron2's does: a
full-size mask per segment, colours changed before scaling, the same augmentations.
`pq`: panoptic quality of 200 synthetic images of 640 x 480 on decoded id maps, against panopticapi's algorithm.
`annotations`: 118,000 images with 1.5 million segments, `dataset_type: serialized`: the second start up to the first
batch, and the memory of a loader with 1 and with 4 workers beyond one with an empty file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotation_file
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneformer_data.metrics.pq import PanopticQuality, tally
from oneformer_data.sample import SegmentInfo
from oneformer_data.training.pipeline import TrainingPipeline, from_spec
from oneformer_spec.labels import Labels
from oneformer_spec.loading.load import load_spec

CROP = 640
Ids = NDArray[np.int32]


def compare(sides: dict[str, Callable[[], object]], repeats: int, count: int, unit: str) -> None:
    """Alternate two sides; print medians and the ratio of the first to the second."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"  {name:<12}{count / middle:8.1f} {unit}/s  ({count / max(values):.1f} to {count / min(values):.1f})")
    ours, peer = (statistics.median(values) for values in times.values())
    print(f"  {peer / ours:.2f} times as fast")


def pipeline(data: Path, repeats: int) -> None:
    """Compare the whole way from files to an example."""
    words = (
        f"dataset.train.images={data}/images",
        f"dataset.train.annotations={data}/annotations/panoptic_train.json",
        f"dataset.train.panoptic={data}/panoptic",
        f"dataset.label_map={data}/label_map.json",
        f"dataset.augmentation.train_crop_size=[{CROP}, {CROP}]",
        "dataset.task_prob_train={panoptic: 1.0}",
    )
    ours = from_spec(load_spec([], words).spec)
    rows = json.loads((data / "annotations" / "panoptic_train.json").read_text())
    names = {row["id"]: row["file_name"] for row in rows["images"]}

    def theirs() -> None:
        rng = np.random.default_rng(0)
        for row in rows["annotations"]:
            mapped(data / "images" / names[row["image_id"]], data / "panoptic" / row["file_name"], row, rng)

    count = len(ours)
    print(f"training samples at a crop of {CROP}, one core, {count} images, median of {repeats}")
    compare({"oneformer": lambda: _all(ours), "mapper": theirs}, repeats, count, "samples")


def _all(examples: TrainingPipeline) -> None:
    rng = np.random.default_rng(0)
    for index in range(len(examples)):
        examples.example(index, rng)


def mapped(picture: Path, png: Path, row: dict[str, Any], rng: np.random.Generator) -> tuple[object, object]:
    """Do what a mapper of detectron2's kind does: everything at full size, a mask at a time, crop at the end.

    Nothing of our packages is used, so that what makes them faster does not make this faster.
    """
    with Image.open(picture) as opened, Image.open(png) as numbers:
        image, packed = np.asarray(opened.convert("RGB")), np.asarray(numbers.convert("RGBA"))
    ids = packed.view("<i4")[..., 0] & 0xFFFFFF
    masks = [ids == segment["id"] for segment in row["segments_info"] if not segment["iscrowd"]]
    image = jittered(image, rng)
    scale = rng.uniform(0.1, 2.0)
    factor = min(scale * CROP / image.shape[0], scale * CROP / image.shape[1])
    size = max(1, int(image.shape[1] * factor + 0.5)), max(1, int(image.shape[0] * factor + 0.5))
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    masks = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
    top = int(rng.integers(max(1, size[1] - CROP + 1)))
    left = int(rng.integers(max(1, size[0] - CROP + 1)))
    window = np.s_[top : top + CROP, left : left + CROP]
    image, masks = image[window], [mask[window] for mask in masks]
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], [mask[:, ::-1] for mask in masks]
    pad = (0, CROP - image.shape[0]), (0, CROP - image.shape[1])
    image = np.pad((image.astype(np.float32) - 120.0) / 58.0, (*pad, (0, 0))).transpose(2, 0, 1)
    return np.ascontiguousarray(image), np.stack([np.pad(mask, pad) for mask in masks if mask.any()] or [ids == 0])


def jittered(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue as SSD does, through Pillow's tables and its HSV."""
    brightness = rng.uniform(-32, 32) * (rng.random() < 0.5)
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    contrast_first = rng.random() < 0.5
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    turn = rng.uniform(-36, 36) * (rng.random() < 0.5)
    levels, picture = np.arange(256), Image.fromarray(image)
    bright = np.clip(levels + brightness, 0, 255)
    picture = picture.point(_table(bright * contrast if contrast_first else bright) * 3)
    if saturation != 1 or turn:
        hue = ((levels + turn * 256 / 360).round() % 256).astype(int).tolist()
        table = [*hue, *_table(levels * saturation), *levels.tolist()]
        picture = picture.convert("HSV").point(table).convert("RGB")
    return np.asarray(picture if contrast_first else picture.point(_table(levels * contrast) * 3))


def _table(levels: NDArray[np.floating[Any]]) -> list[int]:
    rounded: list[int] = np.clip(levels.round(), 0, 255).astype(int).tolist()
    return rounded


def synthetic(seed: int) -> tuple[Ids, Ids, tuple[SegmentInfo, ...], dict[int, int]]:
    """Return truth and prediction of one image, (480, 640) each, with their segments; a block in ten differs."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((480, 640), dtype=np.int32)
    for number in range(1, 26):
        top, left = rng.integers(440), rng.integers(600)
        truth[top : top + rng.integers(20, 240), left : left + rng.integers(20, 320)] = number
    predicted = np.where(np.kron(rng.random((48, 64)) < 0.1, np.ones((10, 10), bool)), np.roll(truth, 30, 1), truth)
    present = [int(number) for number in np.unique(truth) if number]
    segments = tuple(SegmentInfo(number, number % 5, number % 5 < 3, is_crowd=False) for number in present)
    return truth, predicted, segments, {int(number): int(number) % 5 for number in np.unique(predicted) if number}


def plain_quality(images: list[tuple[Ids, Ids, tuple[SegmentInfo, ...], dict[int, int]]]) -> dict[int, float]:
    """Compute PQ per class as Kirillov et al. describe it and panopticapi does: sorts of whole maps per image."""
    ious: dict[int, list[float]] = {}
    wrong: dict[int, int] = {}
    missed: dict[int, int] = {}
    for truth, predicted, segments, classes in images:
        by_id = {segment.id: segment.class_index for segment in segments}
        areas = dict(zip(*(part.tolist() for part in np.unique(predicted, return_counts=True)), strict=True))
        true_areas = dict(zip(*(part.tolist() for part in np.unique(truth, return_counts=True)), strict=True))
        joint = truth.astype(np.uint64) * (256**3) + predicted.astype(np.uint64)
        common = {}
        for label, pixels in zip(*np.unique(joint, return_counts=True), strict=True):
            common[int(label) // 256**3, int(label) % 256**3] = int(pixels)
        hit, found = set(), set()
        for (one, other), pixels in common.items():
            if one not in by_id or other not in classes or by_id[one] != classes[other]:
                continue
            iou = pixels / (true_areas[one] + areas[other] - pixels - common.get((0, other), 0))
            if iou > 0.5:
                ious.setdefault(by_id[one], []).append(iou)
                hit.add(one)
                found.add(other)
        for number, index in by_id.items():
            missed[index] = missed.get(index, 0) + (number not in hit)
        for number, index in classes.items():
            if number not in found and common.get((0, number), 0) / areas[number] <= 0.5:
                wrong[index] = wrong.get(index, 0) + 1
    return {
        index: sum(ious.get(index, [])) / (len(ious.get(index, [])) + 0.5 * (wrong.get(index, 0) + missed[index]))
        for index in missed
    }


def quality(repeats: int) -> None:
    """Compare panoptic quality on id maps in memory."""
    images = [synthetic(seed) for seed in range(200)]
    labels = Labels.parse([{"id": n + 1, "name": f"c{n}", "isthing": int(n < 3)} for n in range(5)], source="synthetic")

    def ours() -> dict[int, float]:
        score = PanopticQuality(labels)
        for number, image in enumerate(images):
            truth, predicted, segments, classes = image
            score.add(f"{number}", tally(truth, segments, predicted, classes))
        rows = score.compute()["PQ"]["per_class"]
        return {labels.indices[int(number)]: row["pq"] for number, row in rows.items()}

    one, other = ours(), plain_quality(images)
    largest = max(abs(one[index] - other[index]) for index in other)
    print(f"PQ of {len(images)} images of 640 x 480, one core, median of {repeats}; largest difference {largest:.1e}")
    compare({"oneformer": ours, "plain": lambda: plain_quality(images)}, repeats, len(images), "images")


def main() -> None:
    """Run one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pipeline", "pq", "annotations"))
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/coco_pan100"), help="a COCO panoptic data set"
    )
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if options.what == "pipeline":
        pipeline(options.data, options.repeats)
    elif options.what == "pq":
        quality(options.repeats)
    else:
        annotation_file.measure()


if __name__ == "__main__":
    main()
