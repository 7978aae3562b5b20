"""What COCO documents share: the lists `images` and `categories`, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from oneformer_data.opening.documents import is_integer
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels

Record = TypeVar("Record")


def category_labels(document: Any, path: str) -> Labels | None:
    """Return the classes of a document's `categories`, or None without any; one without `isthing` is a thing.

    Raises:
        DataError: A category is wrong.
    """
    rows = document.get("categories") if isinstance(document, Mapping) else None
    return Labels.parse(rows, source=f"{path}: categories") if rows else None


def category_problems(document: Any, labels: Labels) -> Iterator[str]:
    """Yield where the categories of a COCO document and the label map give one id two names, or one name two ids."""
    rows = document.get("categories") if isinstance(document, Mapping) else None
    ids = {label.name: label.id for label in labels}
    for row in rows if isinstance(rows, list) else ():
        number, name = (row.get("id"), row.get("name")) if isinstance(row, Mapping) else (None, None)
        if not isinstance(number, int) or not isinstance(name, str):
            continue  # what no annotation uses need not be right
        index = labels.indices.get(number)
        if index is not None and labels[index].name != name:
            yield f"category {number} is {name!r} here and {labels[index].name!r} in the label map"
        elif index is None and name in ids:
            yield f"category {name!r} has the id {number} here and {ids[name]} in the label map"


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


def only(records: Sequence[Record], path: str) -> Record:
    """Return the record of a document that must be about one picture.

    Raises:
        DataError: It is about several, or none.
    """
    if len(records) != 1:
        raise DataError(f"{path}: is about {len(records)} images, expected one")
    return records[0]


def has_key(row: object, field: str) -> bool:
    """Return whether a row has an id in a field: a whole number or a text."""
    value = row.get(field) if isinstance(row, Mapping) else None
    return is_integer(value) or is_name(value)


def is_name(value: object) -> bool:
    """Return whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def _measures(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
