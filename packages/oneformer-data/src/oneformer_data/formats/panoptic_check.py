"""What can be wrong with COCO panoptic annotations, as lines that name image and segment.

Each function yields every problem that it finds: opening a data set stops at the first, a check lists them all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.coco_images import has_key, image_problems, is_name, size_problem
from oneformer_data.formats.id_png import MAX_ID
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.documents import is_integer
from oneformer_spec.labels import Labels


def json_problems(images: Sequence[Any], annotations: Sequence[Any], labels: Labels) -> Iterator[str]:
    """Yield what the two lists of the JSON get wrong alone and together."""
    yield from image_problems(images)
    yield from annotation_problems(annotations, labels)
    listed = {row["id"] for row in images if has_key(row, "id")}
    for row in annotations:
        if has_key(row, "image_id") and row["image_id"] not in listed:
            yield f"image {row['image_id']}: is annotated but not listed under 'images'"


def annotation_problems(rows: Sequence[Any], labels: Labels) -> Iterator[str]:
    """Yield the problems of the list `annotations`, the image list aside."""
    seen: set[object] = set()
    for number, row in enumerate(rows):
        if not has_key(row, "image_id"):
            yield f"annotations[{number}]: has no image_id"
            continue
        where = f"image {row['image_id']}"
        if row["image_id"] in seen:
            yield f"{where}: has two annotations"
        seen.add(row["image_id"])
        if "id" in row and not (is_integer(row["id"]) and row["id"] > 0):
            yield f"{where}: annotation id {row['id']!r}: an id must be an integer greater than 0"
        if not is_name(row.get("file_name")):
            yield f"{where}: the annotation has no file_name of a PNG"
        if isinstance(row.get("segments_info"), list):
            yield from (f"{where}: {problem}" for problem in segment_problems(row["segments_info"], labels))
        else:
            yield f"{where}: the annotation has no list segments_info, so this is not a COCO panoptic file"


def segment_problems(rows: Sequence[Any], labels: Labels) -> Iterator[str]:
    """Yield the problems of one annotation's `segments_info`."""
    seen: set[int] = set()
    for row in rows:
        number = row.get("id") if isinstance(row, Mapping) else None
        if not is_integer(number) or not 0 < number <= MAX_ID:
            yield f"segment {number!r}: an id must be an integer from 1 to {MAX_ID}"
            continue
        if number in seen:
            yield f"segment {number}: the id occurs twice"
        seen.add(number)
        category = row.get("category_id")
        if not is_integer(category) or category not in labels.indices:
            yield f"segment {number}: category {category!r} is not in the label map"
        if row.get("iscrowd", 0) not in (0, 1):
            yield f"segment {number}: iscrowd must be 0 or 1, found {row['iscrowd']!r}"


def size_problems(ids: NDArray[np.int32], image_size: tuple[int, int]) -> Iterator[str]:
    """Yield whether an id map (H, W) has another size than its picture."""
    problem = size_problem(ids.shape, image_size)
    if problem is not None:
        yield problem


def pixel_problems(ids: NDArray[np.int32], entries: Collection[int]) -> Iterator[str]:
    """Yield where a decoded id map (H, W) disagrees with the ids of its entries in the JSON."""
    pixels = value_counts(ids)
    for number in sorted(pixels.keys() - entries - {0}):
        yield f"id {number} ({pixels[number]} pixels) has no entry in segments_info"
    for number in sorted(entries - pixels.keys()):
        yield f"segment {number} of segments_info has no pixels"
