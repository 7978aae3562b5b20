"""Panoptic quality (Kirillov et al. 2019) with the void and crowd rules of cocodataset/panopticapi."""

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
    """What one image, or many, adds to one class: the IoU of every match, false positives, false negatives."""

    ious: tuple[float, ...] = ()
    false_positives: int = 0
    false_negatives: int = 0


class PanopticQuality:
    """PQ, SQ and RQ over all classes, things and stuff, and per class."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.images: dict[str, dict[int, Tally]] = {}

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add one image with its panoptic prediction at the image's size."""
        [truth] = sample.id_maps
        classes = {segment.id: self.labels.indices[segment.category_id] for segment in segmentation.segments}
        self.add(sample.name, tally(truth, sample.segments, segmentation.map, classes))

    def add(self, name: str, tallies: dict[int, Tally]) -> None:
        """Add the tallies of one image unless it was added before."""
        self.images.setdefault(name, tallies)

    def merge(self, other: Self) -> None:
        """Add the images of another shard."""
        for name, tallies in other.images.items():
            self.add(name, tallies)

    def compute(self) -> dict[str, Any]:
        """Return `{"PQ": {"all", "things", "stuff", "per_class"}}`; classes without any count are left out."""
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
    """Return an evaluator of panoptic predictions."""
    return PanopticQuality(labels)


def tally(
    truth: IdMap, segments: Sequence[SegmentInfo], predicted: IdMap, classes: Mapping[int, int]
) -> dict[int, Tally]:
    """Compare one image's id maps, (H, W) each; `classes` maps predicted segment ids to class indices.

    Segments match where their IoU is above one half; void pixels leave the union. An unmatched prediction is forgiven
    when more than half of it lies on void and on the crowd of its own class. Crowds are neither matched nor missed.
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
    """Return the common pixels of every pair (truth id, predicted id) that meets."""
    if truth.shape != predicted.shape:
        raise ValueError(f"the prediction is {predicted.shape}, the ground truth {truth.shape}")
    first, second, pixels = pair_counts(truth, predicted)
    return dict(zip(zip(first.tolist(), second.tolist(), strict=True), pixels.tolist(), strict=True))


def _areas(overlaps: Mapping[tuple[int, int], int]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the pixels of each truth id and of each predicted id."""
    true, found = dict[int, int](), dict[int, int]()
    for (true_id, predicted_id), pixels in overlaps.items():
        true[true_id] = true.get(true_id, 0) + pixels
        found[predicted_id] = found.get(predicted_id, 0) + pixels
    return true, found


def _class_row(tallies: Sequence[Tally]) -> dict[str, Any]:
    ious = [iou for entry in tallies for iou in entry.ious]
    wrong, missed = sum(entry.false_positives for entry in tallies), sum(entry.false_negatives for entry in tallies)
    iou_sum, matches = fsum(ious), len(ious)
    found = matches + 0.5 * wrong + 0.5 * missed
    return {
        "pq": iou_sum / found,
        "sq": iou_sum / matches if matches else 0.0,
        "rq": matches / found,
        "iou_sum": iou_sum,
        "tp": matches,
        "fp": wrong,
        "fn": missed,
    }


def _average(rows: Mapping[int, Mapping[str, Any]], indices: Collection[int]) -> dict[str, Any] | None:
    """Return the means over classes, or None where there is no class."""
    if not indices:
        return None
    means = {field: fsum(rows[index][field] for index in indices) / len(indices) for field in ("pq", "sq", "rq")}
    return {**means, "n": len(indices)}
