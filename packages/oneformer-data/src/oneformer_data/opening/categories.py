"""The categories that COCO files carry: a label map where none is written, and a second opinion where one is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oneformer_data.opening.documents import read_json
from oneformer_data.opening.sources import SHARDS, Source, source_type
from oneformer_data.shards.locating import open_index
from oneformer_spec.errors import SpecError
from oneformer_spec.labels import Labels


def labels_of(source: Source) -> Labels:
    """Return the classes that a data set's own file names; a category without `isthing` is a thing.

    Raises:
        SpecError: It names none.
        DataError: The file cannot be read, or a category is wrong.
    """
    path = source.annotations
    if source_type(source) == SHARDS:
        rows: Any = open_index(source)[0].categories
    else:
        document = read_json(path) if path.lower().endswith(".json") else None
        rows = document.get("categories") if isinstance(document, Mapping) else None
    if not rows:
        raise SpecError(f"dataset.label_map: is not set, and {path} has no categories ({source.section}.annotations)")
    return Labels.parse(rows, source=f"{path}: categories")


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
