"""Every problem of a COCO instance data set: its JSON, its pictures, and masks that are damaged or empty."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.coco_images import claimed_size, has_key, is_name, size_problem
from oneformer_data.formats.instance_check import json_problems
from oneformer_data.formats.layers import put
from oneformer_data.formats.rle import draw, read_segmentation, segmentation_problem
from oneformer_data.opening.categories import category_problems
from oneformer_data.opening.documents import listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.sources import Source
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels


def problems(source: Source, labels: Labels) -> Iterator[str]:
    """Yield a line per problem; every picture is decoded and every mask drawn. What cannot be looked at is passed over.

    Raises:
        SpecError: The folder of pictures is not set.
    """
    images = Folder(source.required("images"), allow_outside=source.allow_outside_root)
    path = source.annotations
    try:
        document = read_json(path)
        pictures, annotations = listed(document, "images", path), listed(document, "annotations", path)
    except DataError as error:
        yield str(error)
        return
    yield from (f"{path}: {problem}" for problem in category_problems(document, labels))
    yield from (f"{path}: {problem}" for problem in json_problems(pictures, annotations, labels))
    if not pictures:
        yield f"{path}: has no images"
    objects: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
    for row in annotations:
        if has_key(row, "image_id"):
            objects[row["image_id"]].append(row)
    progress = Progress(f"check {path}", "images")
    for number, row in enumerate(pictures, start=1):
        if has_key(row, "id") and is_name(row.get("file_name")):
            for problem in _problems(row, objects[row["id"]], images):
                yield f"{problem} (image {row['id']} of {path})"
        progress(number, len(pictures))


def _problems(row: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], images: Folder) -> Iterator[str]:
    """Yield the problems of one picture, and of its masks where it has the size that the JSON claims."""
    try:
        found = read_image(images.allowed(row["file_name"])).shape[:2]
    except DataError as error:
        yield str(error)
        return
    claimed = claimed_size(row)
    if claimed is None:
        return
    problem = size_problem(claimed, found, "the JSON says")
    if problem is not None:
        yield f"{images.path(row['file_name'])}: {problem}"
        return
    layers: list[NDArray[np.int32]] = []
    for number, annotation in enumerate(annotations, start=1):
        value = annotation.get("segmentation")
        if value is None or segmentation_problem(value, claimed) is not None:
            continue  # told of as a problem of the JSON
        try:
            mask = draw(read_segmentation(value), claimed)
            put(layers, mask, number)
            if not mask.any():
                yield f"annotation {annotation.get('id')}: its mask has no pixels"
        except ValueError as error:
            yield f"annotation {annotation.get('id')}: {error}"
