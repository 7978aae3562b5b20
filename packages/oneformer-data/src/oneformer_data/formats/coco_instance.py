"""COCO instance annotations: one JSON file with polygons or run lengths, and a folder of pictures.

Masks stay as the JSON has them until a sample is asked for. Instances may overlap: each keeps all its pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.coco_images import (
    category_labels,
    category_problems,
    claimed_size,
    has_key,
    image_problems,
    is_name,
    only,
    size_problem,
)
from oneformer_data.formats.layers import put
from oneformer_data.formats.rle import (
    LARGEST_SIDE,
    Segmentation,
    Size,
    draw,
    read_segmentation,
    segmentation_problem,
)
from oneformer_data.opening.documents import is_integer, listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.format import File, FileFormat
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels


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


class CocoInstance(FileFormat[Record]):
    """The type `coco_instance`."""

    record_type = Record

    def root(self, field: str) -> str:
        """Return the folder of pictures."""
        return self.source.required("images")

    def where(self, record: Record) -> str:
        """Return the image's id and the file."""
        return f"image {record.image_id} of {self.source.annotations}"

    def labels(self) -> Labels:
        """Return the classes of `categories`."""
        path = self.source.annotations
        return category_labels(read_json(path), path) or super().labels()

    def records(self, labels: Labels) -> tuple[Record, ...]:
        """Return the pictures; those without an object are among them."""
        return read_records(self.source.annotations, labels)

    def sample(self, record: Record, files: Mapping[str, File], labels: Labels) -> Sample:
        """Decode the picture of a record, which must have the size that the JSON states, and draw its masks."""
        path, item = self.source.annotations, f"({self.where(record)})"
        try:
            image = read_image(files["image"])
        except DataError as error:
            raise DataError(f"{error} {item}") from error
        problem = size_problem(record.size, image.shape[:2], "the JSON says")
        if problem is not None:
            raise DataError(f"{files['image']}: {problem} {item}")
        layers: list[NDArray[np.int32]] = []
        for number, instance in enumerate(record.instances, start=1):
            try:
                put(layers, draw(instance.segmentation, record.size), number)
            except ValueError as error:
                raise DataError(f"{path}: annotation {instance.id}: {error} (image {record.image_id})") from None
        id_maps = np.stack(layers) if layers else np.zeros((1, *record.size), dtype=np.int32)
        segments = tuple(
            SegmentInfo(number, instance.class_index, labels[instance.class_index].isthing, instance.is_crowd)
            for number, instance in enumerate(record.instances, start=1)
        )
        return Sample(record.image, record.image_id, image, id_maps, segments)

    def problems(self, labels: Labels) -> Iterator[str]:
        """Yield a line per problem of the JSON, the pictures and the masks; what cannot be looked at is passed over."""
        path, images = self.source.annotations, self.folder("image")
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
                for problem in file_problems(row, objects[row["id"]], images):
                    yield f"{problem} (image {row['id']} of {path})"
            progress(number, len(pictures))

    def picture_names(self, labels: Labels) -> list[str]:
        """Return the names of `images`."""
        rows = listed(read_json(self.source.annotations), "images", self.source.annotations)
        return [row["file_name"] for row in rows if is_name(row.get("file_name"))]

    def documents(self, records: Sequence[Record]) -> list[Any]:
        """Return a COCO document about each picture, its rows as they stand in the JSON."""
        path = self.source.annotations
        document = read_json(path)
        objects: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
        for row in listed(document, "annotations", path):
            objects[row["image_id"]].append(row)
        return [{"images": [row], "annotations": objects[row["id"]]} for row in listed(document, "images", path)]

    def record(self, document: Any, labels: Labels) -> Record:
        """Return the record of a document about one picture."""
        return only(records_in(document, self.source.annotations, labels), self.source.annotations)

    @classmethod
    def from_row(cls, row: list[Any]) -> Record:
        """Return the record of its fields as JSON values."""
        image_id, image, (height, width), instances = row
        return Record(image_id, image, (height, width), tuple(map(_from_row, instances)))


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
        yield from (f"{where}: {problem}" for problem in annotation_problems(row, sizes[row["image_id"]], labels))


def annotation_problems(row: Mapping[str, Any], size: tuple[int, int] | None, labels: Labels) -> Iterator[str]:
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


def file_problems(row: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], images: Folder) -> Iterator[str]:
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


def _instance(row: Mapping[str, Any], labels: Labels) -> Instance:
    segmentation = read_segmentation(row["segmentation"])
    return Instance(row["id"], labels.indices[row["category_id"]], bool(row.get("iscrowd", 0)), segmentation)


def _from_row(row: list[Any]) -> Instance:
    identity, class_index, is_crowd, segmentation = row
    polygons = segmentation if isinstance(segmentation, str) else tuple(map(tuple, segmentation))
    return Instance(identity, class_index, is_crowd, polygons)
