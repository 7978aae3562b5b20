"""Mask average precision (AP) and recall (AR), computed by pycocotools' COCOeval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from oneformer_data.sample import Sample
from oneformer_spec.labels import Labels
from oneformer_spec.results import Segmentation

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers of COCOeval's summary, in its order."""

Rle = dict[str, Any]
"""A mask as COCO run lengths: `size` [H, W] and compressed `counts`."""


@dataclass(frozen=True)
class Truth:
    """One annotated instance; its `area` in pixels decides whether it counts as small, medium or large."""

    category_id: int
    mask: Rle
    area: float
    is_crowd: bool


@dataclass(frozen=True)
class Predicted:
    """One predicted instance."""

    category_id: int
    mask: Rle
    score: float


@dataclass(frozen=True)
class Instances:
    """All annotated and all predicted instances of one image of `size` (H, W)."""

    image_id: int | str
    size: tuple[int, int]
    truth: tuple[Truth, ...]
    predicted: tuple[Predicted, ...]


class AveragePrecision:
    """COCO mask AP and AR over thing classes."""

    def __init__(self, category_ids: Sequence[int], labels: Labels | None = None) -> None:
        """Score these categories; only `update` needs `labels`."""
        self.category_ids = tuple(category_ids)
        self.labels = labels
        self.images: dict[str, Instances] = {}

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add one image and its instance prediction: masks (H, W) at the image's size, unfiltered by score."""
        if self.labels is None:
            raise ValueError("update needs labels")
        predicted = [
            Predicted(segment.category_id, encode(segment.mask), float(segment.score))
            for segment in segmentation.segments
            if segment.mask is not None and segment.score is not None and segment.isthing
        ]
        truth = tuple(_truth(sample, self.labels))
        self.add(sample.name, Instances(sample.image_id, sample.size, truth, tuple(predicted)))

    def add(self, name: str, instances: Instances) -> None:
        """Add one image, unless an image of that name was added before."""
        self.images.setdefault(name, instances)

    def merge(self, other: Self) -> None:
        """Add the images that another evaluator, such as another process's, has seen."""
        for name, instances in other.images.items():
            self.add(name, instances)

    def compute(self) -> dict[str, Any]:
        """Return `{"AP": {...}}`: the twelve summary numbers (0..1), and AP and AP50 per class.

        A number is -1 if the ground truth has no instance of that size; classes without ground truth are left out.
        """
        from pycocotools.cocoeval import COCOeval

        images = [self.images[name] for name in sorted(self.images, key=self._order)]
        truth = [_annotation(entry, number) for number, image in enumerate(images, 1) for entry in image.truth]
        predicted = [_annotation(entry, number) for number, image in enumerate(images, 1) for entry in image.predicted]
        if not truth:
            return {"AP": {**dict.fromkeys(SUMMARY, -1.0), "per_class": {}}}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            evaluation = COCOeval(self._coco(images, truth), self._coco(images, predicted), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        values = dict(zip(SUMMARY, map(float, evaluation.stats), strict=True))
        return {"AP": {**values, "per_class": self._per_class(evaluation.eval["precision"], evaluation.params.catIds)}}

    def _order(self, name: str) -> tuple[bool, int, str, str]:
        """Sort key: images go by image id, because COCOeval breaks ties between equal scores by image order."""
        image_id = self.images[name].image_id
        return (False, image_id, "", name) if isinstance(image_id, int) else (True, 0, image_id, name)

    def _coco(self, images: Sequence[Instances], annotations: list[dict[str, Any]]) -> Any:
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = {
            "images": [
                {"id": number, "height": image.size[0], "width": image.size[1]}
                for number, image in enumerate(images, 1)
            ],
            "categories": [{"id": category} for category in self.category_ids],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
        }
        coco.createIndex()
        return coco

    def _per_class(self, precision: NDArray[np.float64], categories: Sequence[int]) -> dict[str, dict[str, float]]:
        """Average precision (T, R, K, A, M) for each class that has ground truth.

        T IoU thresholds, R recall levels, K classes, A size ranges, M limits on detections per image.
        """
        rows = {}
        for position, category in enumerate(categories):
            values = precision[:, :, position, 0, -1]  # (T, R); all are -1 for a class without ground truth
            if (values > -1).any():
                rows[str(category)] = {"AP": float(values.mean()), "AP50": float(values[0].mean())}
        return rows


def make(labels: Labels) -> AveragePrecision:
    """Return the evaluator of the instance task."""
    return AveragePrecision([label.id for label in labels if label.isthing], labels)


def encode(mask: NDArray[np.bool_]) -> Rle:
    """Return a mask (H, W) as COCO run lengths."""
    from pycocotools.mask import encode as encode_columns

    rle: Rle = encode_columns(np.asfortranarray(mask, dtype=np.uint8))
    return rle


def _truth(sample: Sample, labels: Labels) -> Iterable[Truth]:
    for segment in sample.segments:
        if not segment.isthing:
            continue
        mask = (sample.id_maps == segment.id).any(axis=0)  # (L, H, W) -> (H, W)
        yield Truth(labels[segment.class_index].id, encode(mask), float(mask.sum()), segment.is_crowd)


def _annotation(entry: Truth | Predicted, image_number: int) -> dict[str, Any]:
    """Return an instance as a row of COCO's `annotations`."""
    row = {"image_id": image_number, "category_id": entry.category_id, "segmentation": entry.mask}
    if isinstance(entry, Truth):
        return {**row, "area": entry.area, "iscrowd": int(entry.is_crowd)}
    from pycocotools.mask import area

    return {**row, "area": float(area(entry.mask)), "iscrowd": 0, "score": entry.score}
