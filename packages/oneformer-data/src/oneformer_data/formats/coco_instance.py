"""COCO instance annotations: one JSON file with polygons or run lengths, and a folder of pictures.

Masks stay as the JSON has them until a sample is asked for. Instances may overlap: each keeps all its pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.datasets import Samples
from oneformer_data.formats.coco_images import claimed_size, size_problem
from oneformer_data.formats.instance_check import json_problems
from oneformer_data.formats.layers import put
from oneformer_data.formats.rle import Segmentation, Size, draw, read_segmentation
from oneformer_data.opening.categories import category_problems
from oneformer_data.opening.documents import listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.record_cache import column, kept
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import Content, read_image
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import Task

TASKS = (Task.INSTANCE,)


@dataclass(frozen=True)
class Instance:
    """One annotated object; `id` is the annotation's, for errors."""

    id: int
    class_index: int
    is_crowd: bool
    segmentation: Segmentation


@dataclass(frozen=True)
class Record:
    """One picture as the JSON states it, with its objects; `size` is height and width in pixels."""

    image_id: int | str
    image: str
    size: Size
    instances: tuple[Instance, ...]

    @classmethod
    def from_row(cls, row: list[Any]) -> Record:
        """Return the record of a packed row."""
        image_id, image, (height, width), instances = row
        return cls(image_id, image, (height, width), tuple(map(_from_row, instances)))


def open_instance(source: Source, labels: Labels) -> Samples[Record]:
    """Open a data set of type `coco_instance`.

    Raises:
        SpecError: The folder of pictures is not set.
        DataError: The annotations are wrong, or a picture is missing.
    """
    images = Folder(source.required("images"), allow_outside=source.allow_outside_root)
    path = source.annotations
    records = kept(source, labels, lambda: read_records(path, labels), Record.from_row, ("image",))
    for position, problem in images.problems(column(records, "image")):
        raise DataError(f"{problem} (image {records[position].image_id} of {path})")
    kinds = tuple(label.isthing for label in labels)
    return Samples(records, partial(load, source=path, images=images, things=kinds), TASKS)


def read_records(path: str, labels: Labels) -> tuple[Record, ...]:
    """Return the pictures of a COCO instance JSON; those without an object are among them.

    Raises:
        DataError: The first inconsistency; the message begins with the file and names image and annotation.
    """
    return records_in(read_json(path), path, labels)


def records_in(document: Any, path: str, labels: Labels) -> tuple[Record, ...]:
    """Return the pictures of a COCO instance document that a path names; see `read_records`."""
    images, annotations = listed(document, "images", path), listed(document, "annotations", path)
    for problem in (*category_problems(document, labels), *json_problems(images, annotations, labels)):
        raise DataError(f"{path}: {problem}")
    if not images:
        raise DataError(f"{path}: has no images")
    objects: dict[int | str, list[Instance]] = {row["id"]: [] for row in images}
    for row in annotations:
        objects[row["image_id"]].append(_instance(row, labels))
    return tuple(
        Record(row["id"], row["file_name"], size, tuple(objects[row["id"]]))
        for row in images
        if (size := claimed_size(row)) is not None
    )


def load(record: Record, *, source: str, images: Folder, things: Sequence[bool]) -> Sample:
    """Decode the picture of a record and draw its masks; `things` says by class index what is countable.

    Raises:
        DataError: The picture is damaged or of another size than the JSON says, or a mask is damaged.
    """
    return decode(record, images.path(record.image), source=source, things=things)


def decode(record: Record, picture: Path | Content, *, source: str, things: Sequence[bool]) -> Sample:
    """Decode the picture of a record, wherever it is, and draw its masks; see `load`."""
    item = f"(image {record.image_id} of {source})"
    try:
        image = read_image(picture)
    except DataError as error:
        raise DataError(f"{error} {item}") from error
    problem = size_problem(record.size, image.shape[:2], "the JSON says")
    if problem is not None:
        raise DataError(f"{picture}: {problem} {item}")
    layers: list[NDArray[np.int32]] = []
    for number, instance in enumerate(record.instances, start=1):
        try:
            put(layers, draw(instance.segmentation, record.size), number)
        except ValueError as error:
            raise DataError(f"{source}: annotation {instance.id}: {error} (image {record.image_id})") from None
    id_maps = np.stack(layers) if layers else np.zeros((1, *record.size), dtype=np.int32)
    segments = tuple(
        SegmentInfo(number, instance.class_index, things[instance.class_index], instance.is_crowd)
        for number, instance in enumerate(record.instances, start=1)
    )
    return Sample(record.image, record.image_id, image, id_maps, segments)


def _instance(row: Mapping[str, Any], labels: Labels) -> Instance:
    segmentation = read_segmentation(row["segmentation"])
    return Instance(row["id"], labels.indices[row["category_id"]], bool(row.get("iscrowd", 0)), segmentation)


def _from_row(row: list[Any]) -> Instance:
    identity, class_index, is_crowd, segmentation = row
    polygons = segmentation if isinstance(segmentation, str) else tuple(map(tuple, segmentation))
    return Instance(identity, class_index, is_crowd, polygons)
