"""Panoptic quality, PQ (Kirillov et al. 2019), with panopticapi's rules for void and crowds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import fsum
from typing import Any, NamedTuple, Self

from oneformer_data.metrics.run_counts import IdMap, pair_counts
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.labels import Labels
from oneformer_spec.results import Segmentation

VOID = 0


class Tally(NamedTuple):
    """The counts of one class in an image: the IoU of every match, false positives and false negatives."""

    ious: tuple[float, ...] = ()
    false_positives: int = 0
    false_negatives: int = 0


class PanopticQuality:
    """PQ, SQ and RQ over all classes, over things, over stuff, and per class."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.images: dict[str, dict[int, Tally]] = {}

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add one image and its panoptic prediction (H, W) at the image's size."""
        [truth] = sample.id_maps
        classes = {segment.id: self.labels.indices[segment.category_id] for segment in segmentation.segments}
        self.add(sample.name, tally(truth, sample.segments, segmentation.map, classes))

    def add(self, name: str, tallies: dict[int, Tally]) -> None:
        """Add the tallies of one image by class index, unless an image of that name was added before."""
        self.images.setdefault(name, tallies)

    def merge(self, other: Self) -> None:
        """Add the images that another evaluator, such as another process's, has seen."""
        for name, tallies in other.images.items():
            self.add(name, tallies)

    def compute(self) -> dict[str, Any]:
        """Return `{"PQ": {"all", "things", "stuff", "per_class"}}`, each 0..1.

        Classes without a match, a false positive or a false negative are left out.
        """
        totals: dict[int, dict[str, Any]] = {}
        for index in sorted({index for image in self.images.values() for index in image}):
            totals[index] = _class_row([image[index] for image in self.images.values() if index in image])
        things = {index for index in totals if self.labels[index].isthing}
        return {
            "PQ": {
                "all": _average(totals, totals.keys()),
                "things": _average(totals, things),
                "stuff": _average(totals, totals.keys() - things),
                "per_class": {str(self.labels[index].id): row for index, row in totals.items()},
            }
        }


def make(labels: Labels) -> PanopticQuality:
    """Return the evaluator of the panoptic task."""
    return PanopticQuality(labels)


def tally(
    truth: IdMap, segments: Sequence[SegmentInfo], predicted: IdMap, classes: Mapping[int, int]
) -> dict[int, Tally]:
    """Match the true and predicted segments of one image and count the result per class index.

    Both id maps are (H, W); `classes` maps predicted segment ids to class indices. Segments of one class match if their
    IoU is above one half; void pixels are not part of the union. An unmatched prediction is no false positive if more
    than half of it lies on void and on a crowd of its own class, taken together. Crowds are neither matched nor missed.
    """
    overlaps = _overlaps(truth, predicted)
    truth_areas, predicted_areas = _areas(overlaps)
    true_classes = {segment.id: segment.class_index for segment in segments if not segment.is_crowd}
    ious: dict[int, list[float]] = {}
    matched_truth, matched_predictions = set(), set()
    for (true_id, predicted_id), common in overlaps.items():
        if true_id not in true_classes or true_classes[true_id] != classes.get(predicted_id):
            continue
        on_void = overlaps.get((VOID, predicted_id), 0)
        iou = common / (truth_areas[true_id] + predicted_areas[predicted_id] - common - on_void)
        if iou > 0.5:
            ious.setdefault(true_classes[true_id], []).append(iou)
            matched_truth.add(true_id)
            matched_predictions.add(predicted_id)
    missed = [index for true_id, index in true_classes.items() if true_id not in matched_truth]
    crowds = {segment.class_index: segment.id for segment in segments if segment.is_crowd}
    wrong = []
    for predicted_id, index in classes.items():
        area = predicted_areas.get(predicted_id, 0)
        forgiven = overlaps.get((VOID, predicted_id), 0) + overlaps.get((crowds.get(index, -1), predicted_id), 0)
        if predicted_id not in matched_predictions and area and forgiven / area <= 0.5:
            wrong.append(index)
    return {
        index: Tally(tuple(ious.get(index, ())), wrong.count(index), missed.count(index))
        for index in {*ious, *wrong, *missed}
    }


def _overlaps(truth: IdMap, predicted: IdMap) -> dict[tuple[int, int], int]:
    """Return how many pixels each overlapping pair (truth id, predicted id) shares."""
    if truth.shape != predicted.shape:
        raise ValueError(f"the prediction is {predicted.shape}, the ground truth {truth.shape}")
    first, second, pixels = pair_counts(truth, predicted)
    return dict(zip(zip(first.tolist(), second.tolist(), strict=True), pixels.tolist(), strict=True))


def _areas(overlaps: Mapping[tuple[int, int], int]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the area in pixels of each truth id and of each predicted id."""
    true, predicted = dict[int, int](), dict[int, int]()
    for (true_id, predicted_id), pixels in overlaps.items():
        true[true_id] = true.get(true_id, 0) + pixels
        predicted[predicted_id] = predicted.get(predicted_id, 0) + pixels
    return true, predicted


def _class_row(tallies: Sequence[Tally]) -> dict[str, Any]:
    ious = [iou for entry in tallies for iou in entry.ious]
    wrong, missed = sum(entry.false_positives for entry in tallies), sum(entry.false_negatives for entry in tallies)
    iou_sum, matches = fsum(ious), len(ious)
    denominator = matches + 0.5 * wrong + 0.5 * missed
    return {
        "pq": iou_sum / denominator,
        "sq": iou_sum / matches if matches else 0.0,
        "rq": matches / denominator,
        "iou_sum": iou_sum,
        "tp": matches,
        "fp": wrong,
        "fn": missed,
    }


def _average(rows: Mapping[int, Mapping[str, Any]], indices: Collection[int]) -> dict[str, Any] | None:
    """Return the means over classes, or None without classes."""
    if not indices:
        return None
    means = {field: fsum(rows[index][field] for index in indices) / len(indices) for field in ("pq", "sq", "rq")}
    return {**means, "n": len(indices)}
