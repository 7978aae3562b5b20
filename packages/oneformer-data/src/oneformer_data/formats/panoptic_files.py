"""Every problem of a COCO panoptic data set: its JSON, the files that it names, and their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oneformer_data.formats.coco_images import claim_problems
from oneformer_data.formats.id_png import read_ids
from oneformer_data.formats.panoptic_check import json_problems, pixel_problems, size_problems
from oneformer_data.opening.categories import category_problems
from oneformer_data.opening.documents import is_integer, listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.sources import Source
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels


def problems(source: Source, labels: Labels) -> Iterator[str]:
    """Yield a line per problem; every picture and every PNG is decoded. What cannot be looked at is passed over.

    Raises:
        SpecError: A folder is not set.
    """
    images = Folder(source.required("images"), allow_outside=source.allow_outside_root)
    panoptic = Folder(source.required("panoptic"), allow_outside=source.allow_outside_root)
    path = source.annotations
    try:
        document = read_json(path)
        pictures, annotations = listed(document, "images", path), listed(document, "annotations", path)
    except DataError as error:
        yield str(error)
        return
    yield from (f"{path}: {problem}" for problem in category_problems(document, labels))
    yield from (f"{path}: {problem}" for problem in json_problems(pictures, annotations, labels))
    if not annotations:
        yield f"{path}: has no annotations"
        return
    listed_pictures = {row["id"]: row for row in pictures if isinstance(row.get("id"), int | str)}
    progress = Progress(f"check {path}", "images")
    for number, row in enumerate(annotations, start=1):
        image_id = row.get("image_id")
        if isinstance(image_id, int | str):
            item = f"(image {image_id} of {path})"
            for problem in _file_problems(listed_pictures.get(image_id, {}), images, row, panoptic):
                yield f"{problem} {item}"
        progress(number, len(annotations))


def _file_problems(
    picture: Mapping[str, Any], images: Folder, row: Mapping[str, Any], panoptic: Folder
) -> Iterator[str]:
    """Yield the problems of one picture and its PNG, and of the two together where both can be decoded."""
    size, ids, name = None, None, picture.get("file_name")
    try:
        if isinstance(name, str) and name:
            height, width, _ = read_image(images.allowed(name)).shape
            size = height, width
            yield from (f"{images.path(name)}: {problem}" for problem in claim_problems(picture, size))
    except DataError as error:
        yield str(error)
    try:
        if isinstance(row.get("file_name"), str) and row["file_name"]:
            ids = read_ids(panoptic.allowed(row["file_name"]))
    except DataError as error:
        yield str(error)
    if ids is None:
        return
    png = panoptic.path(row["file_name"])
    if size is not None:
        yield from (f"{png}: {problem}" for problem in size_problems(ids, size))
    if isinstance(row.get("segments_info"), list):
        yield from (f"{png}: {problem}" for problem in pixel_problems(ids, _entries(row["segments_info"])))


def _entries(rows: Sequence[Any]) -> set[int]:
    """Return the ids that pixels may have; the others are problems of the JSON."""
    return {row["id"] for row in rows if isinstance(row, Mapping) and is_integer(row.get("id")) and row["id"] > 0}
