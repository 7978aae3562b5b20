"""What can be wrong with COCO instance annotations, as lines that name image and annotation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oneformer_data.formats.coco_images import claimed_size, has_key, image_problems
from oneformer_data.formats.rle import LARGEST_SIDE, segmentation_problem
from oneformer_data.opening.documents import is_integer
from oneformer_spec.labels import Labels


def json_problems(images: Sequence[Any], annotations: Sequence[Any], labels: Labels) -> Iterator[str]:
    """Yield what the two lists of the JSON get wrong alone and together."""
    if any(isinstance(row.get("segments_info"), list) for row in annotations[:1]):
        yield "is a COCO panoptic file, which needs its folder of PNG maps (dataset.<split>.panoptic)"
        return
    yield from image_problems(images)
    sizes: dict[object, tuple[int, int] | None] = {}
    for row in images:
        if has_key(row, "id"):
            sizes[row["id"]] = size = claimed_size(row)
            if size is None or max(size) > LARGEST_SIDE:
                found = f"height {row.get('height')!r} and width {row.get('width')!r}"
                yield f"image {row['id']}: has {found}, expected whole numbers from 1 to {LARGEST_SIDE}"
    seen: set[int] = set()
    for number, row in enumerate(annotations):
        identity = row.get("id")
        if not is_integer(identity) or identity < 1:
            yield f"annotations[{number}]: annotation id {identity!r}: an id must be an integer greater than 0"
            continue
        if identity in seen:
            yield f"annotation {identity}: the id occurs twice"
        seen.add(identity)
        if not has_key(row, "image_id") or row["image_id"] not in sizes:
            yield f"annotation {identity}: image {row.get('image_id')!r} is not listed under 'images'"
            continue
        where = f"image {row['image_id']}: annotation {identity}"
        yield from (f"{where}: {problem}" for problem in _problems(row, sizes[row["image_id"]], labels))


def _problems(row: Mapping[str, Any], size: tuple[int, int] | None, labels: Labels) -> Iterator[str]:
    """Yield the problems of one annotation, its ids aside."""
    category = row.get("category_id")
    if not is_integer(category) or category not in labels.indices:
        yield f"category {category!r} is not in the label map"
    if row.get("iscrowd", 0) not in (0, 1):
        yield f"iscrowd must be 0 or 1, found {row['iscrowd']!r}"
    if "segmentation" not in row:
        yield "has no segmentation, so this is not a COCO instance file"
    elif size is not None:
        problem = segmentation_problem(row["segmentation"], size)
        if problem is not None:
            yield problem
