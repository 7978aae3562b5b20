"""Turn a network's logits into segments, with one implementation for numpy and torch (through the array API).

Follows the three inference procedures of OneFormer's published implementation (section 3.4 of Mask2Former for the
semantic and panoptic rules): masks are first resized to the image's original size, and all decisions are made there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from oneformer_spec import hooks
from oneformer_spec.errors import PluginError
from oneformer_spec.labels import Label, Labels
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.plugins.task_declarations import declared_task
from oneformer_spec.results import Segment, Segmentation, bounding_box, bounding_boxes
from oneformer_spec.segmentation.frame import Frame
from oneformer_spec.segmentation.tiles import Array, Tile, on_host, take, tiles, to_numpy
from oneformer_spec.tasks import Task

_ROUNDING = 1e-3
"""Far above the relative error of a class score in single precision."""


@dataclass(frozen=True)
class Thresholds:
    """Limits below which a query is discarded.

    `object_mask`: the class probability that a query must exceed. `overlap`: the share of its own mask that must remain
    for a panoptic segment after overlaps are resolved. `topk`: the largest number of instances per image, counted
    before stuff is dropped.
    """

    object_mask: float = 0.4
    overlap: float = 0.8
    topk: int = 100


def decode(
    class_logits: Array,
    mask_logits: Array,
    *,
    task: str,
    frame: Frame,
    labels: Labels,
    thresholds: Thresholds,
    min_score: float | None = None,
) -> Segmentation:
    """Return one image's segmentation at its original size.

    Args:
        class_logits: (Q, C + 1), the last column is "no object".
        mask_logits: (Q, h, w), any resolution of the padded input.
        task: Name of the task whose token the network was given.
        frame: How the picture was scaled and padded.
        labels: The C classes.
        thresholds: See `Thresholds`.
        min_score: The class probability that an instance must exceed; None means `thresholds.object_mask`, 0 keeps all
            of the top k, as average precision wants.
    """
    if class_logits.shape[-1] != len(labels) + 1:
        raise ValueError(
            f"class_logits has {class_logits.shape[-1]} columns, {len(labels)} labels need {len(labels) + 1}"
        )
    declared = declared_task(task)
    smallest = thresholds.object_mask if min_score is None else min_score
    with _without_autocast(mask_logits):
        probabilities, mask_logits = _softmax(_single_precision(class_logits)), _single_precision(mask_logits)
        match declared.decode:
            case Task.SEMANTIC:
                found = _semantic(probabilities, mask_logits, frame, labels)
            case Task.PANOPTIC:
                found = _panoptic(probabilities, mask_logits, frame, labels, thresholds)
            case Task.INSTANCE:
                found = _instance(probabilities, mask_logits, frame, labels, topk=thresholds.topk, min_score=smallest)
            case _:
                found = _own(declared, probabilities, mask_logits, frame, labels, thresholds)
    return replace(found, task=declared.name)


def _own(
    declared: hooks.Task,
    probabilities: Array,
    mask_logits: Array,
    frame: Frame,
    labels: Labels,
    thresholds: Thresholds,
) -> Segmentation:
    """Return what a plugin's own function makes of the predictions."""
    found = resolve(declared.decode)(probabilities, mask_logits, frame, labels, thresholds)
    if not isinstance(found, Segmentation) or found.map.shape != frame.original:
        shape = f" of {found.map.shape}" if isinstance(found, Segmentation) else ""
        raise PluginError(
            f"the task {declared.name!r}: {declared.decode} must return a Segmentation of {frame.original}, "
            f"found {type(found).__name__}{shape}"
        )
    return found


def _semantic(probabilities: Array, mask_logits: Array, frame: Frame, labels: Labels) -> Segmentation:
    """Give each pixel the class with the largest sum over queries of class probability times mask probability."""
    xp = array_namespace(probabilities, mask_logits)
    by_query = probabilities[:, :-1]  # (Q, C)
    classes = np.zeros(frame.original, dtype=np.int64)
    for tile in tiles(mask_logits, frame):
        possible = _possible_classes(by_query, tile)
        if len(possible) == 1:
            classes[tile.rows, tile.columns] = possible[0]
            continue
        masks = _sigmoid(tile.logits())  # (rows, columns, Q)
        scores = xp.matmul(xp.reshape(masks, (-1, masks.shape[-1])), take(by_query, possible, axis=1))  # (pixels, C)
        best = to_numpy(xp.argmax(scores, axis=-1))
        classes[tile.rows, tile.columns] = possible[best].reshape(tile.size)
    areas, boxes = np.bincount(classes.reshape(-1)), bounding_boxes(classes, len(labels))
    segments = [
        _segment(labels[index], number=labels[index].id, area=areas[index], bbox=boxes[index])
        for index in np.flatnonzero(areas).tolist()
    ]
    ids = np.asarray([label.id for label in labels], dtype=np.int32)
    return Segmentation(Task.SEMANTIC, ids[classes], tuple(segments))


def _possible_classes(by_query: Array, tile: Tile) -> NDArray[np.int64]:
    """Return the classes that can win a pixel of the tile; interpolated logits stay in the range of their source."""
    xp = array_namespace(by_query)
    largest = xp.matmul(_sigmoid(xp.max(tile.source, axis=(0, 1))), by_query)  # (C,)
    smallest = xp.matmul(_sigmoid(xp.min(tile.source, axis=(0, 1))), by_query)
    return np.flatnonzero(~to_numpy(largest < xp.max(smallest) * (1 - _ROUNDING)))  # NaN excludes nothing


def _panoptic(
    probabilities: Array, mask_logits: Array, frame: Frame, labels: Labels, thresholds: Thresholds
) -> Segmentation:
    """Give each pixel to the query with the largest class times mask probability; merge stuff of the same class."""
    all_probabilities = to_numpy(probabilities)
    scores, classes = all_probabilities.max(axis=1), all_probabilities.argmax(axis=1)
    kept = np.flatnonzero((classes != len(labels)) & (scores > thresholds.object_mask))
    if not len(kept):
        return Segmentation(Task.PANOPTIC, np.zeros(frame.original, dtype=np.int32), ())
    owners, inside, areas = _owners(take(probabilities, kept), take(mask_logits, kept), frame)
    owned = np.bincount(owners.reshape(-1), minlength=len(kept))
    visible = np.bincount(owners[inside], minlength=len(kept))

    segment_of = np.zeros(len(kept), dtype=np.int32)  # query -> segment id, 0 = dropped
    found: list[tuple[Label, float]] = []
    stuff: dict[int, int] = {}
    for query, (class_index, score) in enumerate(zip(classes[kept], scores[kept], strict=True)):
        if not visible[query] or owned[query] / areas[query] < thresholds.overlap:
            continue
        label = labels[int(class_index)]
        if label.id in stuff:
            number = segment_of[query] = stuff[label.id]
            found[number - 1] = label, max(found[number - 1][1], float(score))
            continue
        found.append((label, float(score)))
        segment_of[query] = len(found)
        if not label.isthing:
            stuff[label.id] = len(found)
    id_map = np.where(inside, segment_of[owners], 0).astype(np.int32)
    sizes, boxes = np.bincount(id_map.reshape(-1)), bounding_boxes(id_map, len(found) + 1)
    segments = [
        _segment(label, number=number, area=sizes[number], bbox=boxes[number], score=score)
        for number, (label, score) in enumerate(found, start=1)
    ]
    return Segmentation(Task.PANOPTIC, id_map, tuple(segments))


def _owners(
    probabilities: Array, mask_logits: Array, frame: Frame
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return each pixel's query (H, W), whether it lies inside that query's mask, and the areas of all masks (K,)."""
    xp = array_namespace(probabilities, mask_logits)
    scores = xp.max(probabilities, axis=1)
    owners = np.zeros(frame.original, dtype=np.int64)
    inside = np.zeros(frame.original, dtype=np.bool_)
    areas = np.zeros(len(scores), dtype=np.int64)
    for tile in tiles(mask_logits, frame):
        masks = _sigmoid(tile.logits())  # (rows, columns, K)
        owner = xp.argmax(masks * scores, axis=-1, keepdims=True)
        covered = masks >= 0.5
        owners[tile.rows, tile.columns] = to_numpy(owner)[..., 0]
        inside[tile.rows, tile.columns] = to_numpy(xp.take_along_axis(covered, owner, axis=-1))[..., 0]
        areas += to_numpy(xp.sum(xp.astype(covered, xp.int32), axis=(0, 1)))
    return owners, inside, areas


def _instance(
    probabilities: Array, mask_logits: Array, frame: Frame, labels: Labels, *, topk: int, min_score: float
) -> Segmentation:
    """Return the top k (query, class) pairs that are things; score = class probability times mean mask probability."""
    flat = to_numpy(probabilities)[:, :-1].reshape(-1)  # (Q * C,)
    best = np.argsort(-flat, kind="stable")[:topk]
    is_thing = np.asarray([label.isthing for label in labels])
    best = best[is_thing[best % len(labels)] & (flat[best] > min_score)]
    queries, position = np.unique(best // len(labels), return_inverse=True)
    id_map = np.zeros(frame.original, dtype=np.int32)
    if not len(best):
        return Segmentation(Task.INSTANCE, id_map, ())
    masks, areas, quality = _instance_masks(take(mask_logits, queries), frame)
    scores = flat[best] * quality[position]
    order = [i for i in np.argsort(-scores, kind="stable") if areas[position[i]]]
    boxes = [bounding_box(mask) for mask in masks]
    segments = []
    for number, i in enumerate(order, start=1):
        label, query = labels[int(best[i]) % len(labels)], position[i]
        (x, y, width, height), mask = boxes[query], masks[query]
        segments.append(
            _segment(label, number=number, area=areas[query], bbox=boxes[query], score=float(scores[i]), mask=mask)
        )
        box = np.s_[y : y + height, x : x + width]
        np.copyto(id_map[box], number, where=mask[box] & (id_map[box] == 0))  # instances with better scores stay on top
    return Segmentation(Task.INSTANCE, id_map, tuple(segments))


def _instance_masks(
    mask_logits: Array, frame: Frame
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
    """Return the masks (K, H, W), their areas in pixels (K,) and the mean mask probability inside each (K,)."""
    xp = array_namespace(mask_logits)
    masks = np.zeros((mask_logits.shape[0], *frame.original), dtype=np.bool_)
    sums = np.zeros(len(masks), dtype=np.float64)
    for tile in tiles(mask_logits, frame):
        # Interpolation stays within the range of its source: without a positive logit there is no positive pixel.
        touched = np.flatnonzero(to_numpy(xp.max(tile.source, axis=(0, 1))) > 0)
        if not len(touched):
            continue
        logits = tile.logits(touched)  # (rows, columns, touched)
        inside = logits > 0
        masks[touched, tile.rows, tile.columns] = np.moveaxis(to_numpy(inside), -1, 0)
        sums[touched] += to_numpy(xp.sum(_sigmoid(logits) * inside, axis=(0, 1)))
    areas = np.asarray([np.count_nonzero(mask) for mask in masks], dtype=np.int64)
    return masks, areas, sums / (areas + 1e-6)


def _segment(
    label: Label,
    *,
    number: int,
    area: int,
    bbox: tuple[int, int, int, int],
    score: float | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Segment:
    return Segment(number, label.id, label.name, label.isthing, score, int(area), bbox, mask)


def _without_autocast(array: Array) -> AbstractContextManager[object]:
    """Return a context without torch's autocast, so that products have the precision of their operands."""
    if not is_torch_array(array):
        return nullcontext()
    context: AbstractContextManager[object] = array_namespace(array).autocast(array.device.type, enabled=False)
    return context


def _single_precision(array: Array) -> Array:
    """Return logits as float32 without gradient; on the CPU as a numpy array, which is faster for many small steps.

    Half precision is good enough for the network but not for these decisions.
    """
    xp = array_namespace(array)
    detached = array if isinstance(array, np.ndarray) else array.detach()
    single = xp.astype(detached, xp.float32, copy=False)
    return to_numpy(single) if on_host(single) else single


def _softmax(logits: Array) -> Array:
    xp = array_namespace(logits)
    exponent = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return exponent / xp.sum(exponent, axis=-1, keepdims=True)


def _sigmoid(logits: Array) -> Array:
    xp = array_namespace(logits)
    with np.errstate(over="ignore"):  # exp(…) = inf gives 0, which is correct
        return 1 / (1 + xp.exp(-logits))
