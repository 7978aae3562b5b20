"""The list `images` of a COCO document: what can be wrong with it, and with the pictures that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oneformer_data.opening.documents import is_integer


def image_problems(rows: Sequence[Any]) -> Iterator[str]:
    """Yield the problems of the list `images`."""
    seen: dict[str, set[object]] = {"id": set(), "file_name": set()}
    for number, row in enumerate(rows):
        if not has_key(row, "id"):
            yield f"images[{number}]: has no id"
        elif not is_name(row.get("file_name")):
            yield f"image {row['id']}: has no file_name"
        else:
            for field, values in seen.items():
                if row[field] in values:
                    yield f"image {row['id']}: two images have the {field} {row[field]!r}"
                values.add(row[field])


def claimed_size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return height and width as a row of `images` states them, or None where it does not."""
    height, width = row.get("height"), row.get("width")
    if not (is_integer(height) and is_integer(width)) or height < 1 or width < 1:
        return None
    return height, width


def claim_problems(row: Mapping[str, Any], image_size: tuple[int, int]) -> Iterator[str]:
    """Yield whether a row of `images` states another width or height than its picture has; it may state none."""
    if row.get("height") is None or row.get("width") is None:
        return
    claimed = claimed_size(row)
    if claimed is None:
        found = f"width {row['width']!r} and height {row['height']!r}"
        yield f"the JSON says {found}, expected whole numbers from 1 on"
        return
    problem = size_problem(claimed, image_size, "the JSON says")
    if problem is not None:
        yield problem


def size_problem(found: tuple[int, ...], image_size: tuple[int, ...], what: str = "is") -> str | None:
    """Return whether a size (height, width) that should be the picture's is another one."""
    if found == image_size:
        return None
    turned = " in the orientation that its EXIF data asks for" if found == image_size[::-1] else ""
    return f"{what} {_measures(found)} but the image is {_measures(image_size)}{turned}"


def has_key(row: object, field: str) -> bool:
    """Return whether a row has an id in a field: a whole number or a text."""
    value = row.get(field) if isinstance(row, Mapping) else None
    return is_integer(value) or is_name(value)


def is_name(value: object) -> bool:
    """Return whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def _measures(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
