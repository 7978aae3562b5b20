"""Scores of saved predictions: files in, the numbers of `metrics` out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneformer_data.formats.coco_images import claimed_size
from oneformer_data.formats.coco_panoptic import annotation_problems, pixel_problems, read_records, segments
from oneformer_data.formats.id_png import read_classes, read_ids
from oneformer_data.formats.rle import LARGEST_SIDE, encoded, read_segmentation, segmentation_problem
from oneformer_data.metrics.ap import AveragePrecision, Instances, Predicted, Rle, Truth
from oneformer_data.metrics.miou import SemanticScores
from oneformer_data.metrics.pq import PanopticQuality, tally
from oneformer_data.metrics.run_counts import IdMap, value_counts
from oneformer_data.opening.documents import is_integer, listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.sample import SegmentInfo
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels


def score_panoptic(gt: str, gt_dir: str, pred: str, pred_dir: str) -> dict[str, Any]:
    """Return panoptic quality of two COCO panoptic files with their PNG folders.

    Raises:
        DataError: A file is wrong, or an image of the ground truth has no prediction.
    """
    labels = Labels.parse(listed(read_json(gt), "categories", gt), source=gt)
    predictions = listed(read_json(pred), "annotations", pred)
    for problem in annotation_problems(predictions, labels):
        raise DataError(f"{pred}: {problem}")
    by_image = {row["image_id"]: row for row in predictions}
    quality = PanopticQuality(labels)
    for record in read_records(gt, labels):
        row = by_image.get(record.image_id)
        if row is None:
            raise DataError(f"{pred}: image {record.image_id}: has no prediction")
        found = segments(row["segments_info"], labels)
        truth = _consistent_ids(Folder(gt_dir), record.panoptic, record.segments, f"(image {record.image_id} of {gt})")
        item = f"(image {record.image_id} of {pred})"
        predicted = _consistent_ids(Folder(pred_dir), row["file_name"], found, item)
        _check_sizes(truth, predicted, f"{Path(pred_dir, row['file_name'])}", item)
        quality.add(record.image, tally(truth, record.segments, predicted, {s.id: s.class_index for s in found}))
    return quality.compute()


def score_semantic(gt: str, pred: str, *, num_classes: int, ignore: int) -> dict[str, Any]:
    """Return the semantic scores of two folders of PNGs with the same names; pixel = class index.

    Raises:
        DataError: A file is missing or wrong.
    """
    names = sorted(path.relative_to(gt).as_posix() for path in Path(gt).rglob("*") if path.suffix.lower() == ".png")
    if not names:
        raise DataError(f"{gt}: {'holds no PNG files' if Path(gt).is_dir() else 'does not exist'}")
    scores = SemanticScores(num_classes)
    for name in names:
        truth, predicted = read_classes(Path(gt, name)), read_classes(Path(pred, name))
        _check_sizes(truth, predicted, f"{Path(pred, name)}", "")
        for value in value_counts(truth):
            if value != ignore and not 0 <= value < num_classes:
                raise DataError(f"{Path(gt, name)}: value {value} is no class (0..{num_classes - 1}) and not {ignore}")
        scores.add(name, truth, predicted, ignore=ignore)
    return scores.compute()


def score_instance(gt: str, pred: str) -> dict[str, Any]:
    """Return mask AP and AR of a COCO results list against a COCO instance file.

    Raises:
        DataError: A file is wrong, or a prediction names an image or a category that the ground truth lacks.
    """
    document = read_json(gt)
    categories = [row["id"] for row in listed(document, "categories", gt) if is_integer(row.get("id"))]
    images = _sizes(listed(document, "images", gt), gt)
    truth: dict[int | str, list[Truth]] = {image_id: [] for image_id in images}
    predicted: dict[int | str, list[Predicted]] = {image_id: [] for image_id in images}
    for row, mask, where in _instances(listed(document, "annotations", gt), images, categories, gt):
        if not is_integer(row.get("id")) or row["id"] < 1:
            raise DataError(f"{where}: annotation id {row.get('id')!r}: an id must be an integer greater than 0")
        truth[row["image_id"]].append(Truth(row["category_id"], mask, _area(row, mask), bool(row.get("iscrowd", 0))))
    results = read_json(pred)
    if not isinstance(results, list):
        raise DataError(f"{pred}: expected a COCO results list")
    for row, mask, where in _instances(results, images, categories, pred):
        if not isinstance(row.get("score"), int | float):
            raise DataError(f"{where}: has no score")
        predicted[row["image_id"]].append(Predicted(row["category_id"], mask, float(row["score"])))
    precision = AveragePrecision(categories)
    for image_id, size in images.items():
        precision.add(f"{image_id}", Instances(image_id, size, tuple(truth[image_id]), tuple(predicted[image_id])))
    return precision.compute()


def _consistent_ids(folder: Folder, name: str, segments: Sequence[SegmentInfo], item: str) -> IdMap:
    problem = folder.problem(name)
    if problem is not None:
        raise DataError(f"{problem} {item}")
    ids = read_ids(folder.path(name))
    for problem in pixel_problems(ids, {segment.id for segment in segments}):
        raise DataError(f"{folder.path(name)}: {problem} {item}")
    return ids


def _sizes(rows: Sequence[Mapping[str, Any]], path: str) -> dict[int | str, tuple[int, int]]:
    """Return height and width by image id."""
    sizes = {}
    for row in rows:
        if not isinstance(row.get("id"), int | str):
            raise DataError(f"{path}: an entry of 'images' has no id")
        size = claimed_size(row)
        if size is None or max(size) > LARGEST_SIDE:
            raise DataError(f"{path}: image {row['id']}: has no height and width from 1 to {LARGEST_SIDE}")
        sizes[row["id"]] = size
    return sizes


def _check_sizes(truth: IdMap, predicted: IdMap, path: str, item: str) -> None:
    if truth.shape != predicted.shape:
        sizes = (
            f"is {predicted.shape[1]}x{predicted.shape[0]} but the ground truth is {truth.shape[1]}x{truth.shape[0]}"
        )
        raise DataError(f"{path}: {sizes} {item}".rstrip())


def _instances(
    rows: Sequence[Any], images: Mapping[int | str, tuple[int, int]], categories: Sequence[Any], path: str
) -> Iterator[tuple[Mapping[str, Any], Rle, str]]:
    """Yield each row with its mask and its place for errors."""
    known = set(categories)
    for number, row in enumerate(rows):
        where = f"{path}: entry {number}"
        if not isinstance(row, Mapping) or not isinstance(row.get("image_id"), int | str):
            raise DataError(f"{where}: has no image_id")
        where = f"{path}: image {row['image_id']}, entry {number}"
        if row["image_id"] not in images:
            raise DataError(f"{where}: the ground truth has no such image")
        if not is_integer(row.get("category_id")) or row["category_id"] not in known:
            raise DataError(f"{where}: category {row.get('category_id')!r} is not in the ground truth's categories")
        yield row, _rle(row.get("segmentation"), images[row["image_id"]], where), where


def _rle(segmentation: Any, size: tuple[int, int], where: str) -> Rle:
    """Return the run lengths of polygons, counts, or compressed counts."""
    problem = segmentation_problem(segmentation, size)
    if problem is not None:
        raise DataError(f"{where}: {problem}")
    try:
        return {"size": list(size), "counts": encoded(read_segmentation(segmentation), size)}
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def _area(row: Mapping[str, Any], mask: Rle) -> float:
    from pycocotools.mask import area

    return float(row["area"]) if isinstance(row.get("area"), int | float) else float(area(mask))
