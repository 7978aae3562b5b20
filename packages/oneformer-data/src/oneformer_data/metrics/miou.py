"""Semantic metrics from one confusion matrix over all images: mean IoU, weighted IoU and accuracies."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from oneformer_data.metrics.run_counts import IdMap, pair_counts
from oneformer_data.sample import Sample
from oneformer_spec.labels import Labels
from oneformer_spec.results import Segmentation


class SemanticScores:
    """Mean IoU and related metrics over C classes.

    A pixel predicted as none of the classes counts as wrong, but not as a false positive of any class.
    """

    def __init__(self, num_classes: int, labels: Labels | None = None) -> None:
        """Score class indices 0..C-1; `update` needs `labels`, because its predictions hold category ids."""
        self.num_classes = num_classes
        self.labels = labels
        self.images: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add one image and its semantic prediction (H, W) at the image's size; void pixels do not count."""
        if self.labels is None:
            raise ValueError("update needs labels")
        [truth] = sample.id_maps
        classes = {segment.id: segment.class_index for segment in sample.segments}
        true_ids, categories, pixels = pair_counts(truth, segmentation.map)
        true = np.array([classes.get(number, -1) for number in true_ids.tolist()], dtype=np.int64)
        predicted = np.array([self.labels.indices.get(number, -1) for number in categories.tolist()], dtype=np.int64)
        self._add(sample.name, true, predicted, pixels)

    def add(self, name: str, truth: IdMap, predicted: IdMap, *, ignore: int) -> None:
        """Add one image as maps of class indices, each (H, W); pixels whose truth is `ignore` do not count."""
        true, classes, pixels = pair_counts(truth, predicted)
        self._add(name, np.where(true == ignore, -1, true), np.where(classes == ignore, -1, classes), pixels)

    def merge(self, other: Self) -> None:
        """Add the images that another evaluator, such as another process's, has seen."""
        for name, cells in other.images.items():
            self.images.setdefault(name, cells)

    def confusion(self) -> NDArray[np.int64]:
        """Return the confusion matrix (C, C + 1) in pixels: rows are true classes, the last column is "no class"."""
        matrix = np.zeros(self.num_classes * (self.num_classes + 1), dtype=np.int64)
        for cells, pixels in self.images.values():
            matrix[cells] += pixels
        return matrix.reshape(self.num_classes, self.num_classes + 1)

    def compute(self) -> dict[str, Any]:
        """Return mIoU, fwIoU, mAcc, pixel_acc and IoU_per_class (0..1), or None where the denominator is 0.

        mIoU averages over the classes that occur in truth or prediction, mAcc over those that occur in the truth.
        """
        matrix = self.confusion()
        hits, truth, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix[:, :-1].sum(axis=0)
        union = truth + predicted - hits
        ious = [int(hit) / int(area) if area else None for hit, area in zip(hits, union, strict=True)]
        accuracies = [int(hit) / int(area) for hit, area in zip(hits, truth, strict=True) if area]
        total = int(truth.sum())
        weighted = sum(int(area) * iou for area, iou in zip(truth, ious, strict=True) if iou is not None)
        return {
            "mIoU": _mean([iou for iou in ious if iou is not None]),
            "fwIoU": weighted / total if total else None,
            "mAcc": _mean(accuracies),
            "pixel_acc": int(hits.sum()) / total if total else None,
            "IoU_per_class": ious,
        }

    def _add(self, name: str, true: NDArray[np.int64], predicted: NDArray[np.int64], pixels: NDArray[np.int64]) -> None:
        inside = (true >= 0) & (true < self.num_classes)
        no_class = (predicted < 0) | (predicted >= self.num_classes)
        cells = (true * (self.num_classes + 1) + np.where(no_class, self.num_classes, predicted))[inside]
        unique, inverse = np.unique(cells, return_inverse=True)
        counted = np.zeros(len(unique), dtype=np.int64)
        np.add.at(counted, inverse, pixels[inside])
        self.images.setdefault(name, (unique, counted))


def make(labels: Labels) -> SemanticScores:
    """Return the evaluator of the semantic task."""
    return SemanticScores(len(labels), labels)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
