"""COCO panoptic annotations: one JSON file, one folder of pictures, one folder of PNG id maps.

Each function of problems yields all that it finds: opening a data set stops at the first, a check lists them all.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.coco_images import (
    category_labels,
    category_problems,
    claim_problems,
    has_key,
    image_problems,
    is_name,
    only,
    size_problem,
)
from oneformer_data.formats.id_png import MAX_ID, read_ids
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.documents import is_integer, listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.format import File, FileFormat
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One annotated picture as the JSON states it: file names and segments, no pixels."""

    image_id: int | str
    image: str
    panoptic: str
    segments: tuple[SegmentInfo, ...]


class CocoPanoptic(FileFormat[Record]):
    """The type `coco_panoptic`."""

    record_type = Record
    members: ClassVar[Mapping[str, str]] = {"panoptic": "panoptic.png"}

    def root(self, field: str) -> str:
        """Return the folder of pictures, or of PNG id maps."""
        return self.source.required("panoptic" if field == "panoptic" else "images")

    def where(self, record: Record) -> str:
        """Return the image's id and the file."""
        return f"image {record.image_id} of {self.source.annotations}"

    def may_overlap(self) -> bool:
        """Return False: a pixel of a PNG holds one id."""
        return False

    def labels(self) -> Labels:
        """Return the classes of `categories`."""
        path = self.source.annotations
        return category_labels(read_json(path), path) or super().labels()

    def records(self, labels: Labels) -> tuple[Record, ...]:
        """Return the annotated pictures; those without an annotation are left out with a warning."""
        return read_records(self.source.annotations, labels)

    def sample(self, record: Record, files: Mapping[str, File], labels: Labels) -> Sample:
        """Decode the picture and the ids of a record, which must agree with each other and with the JSON."""
        item = f"({self.where(record)})"
        try:
            image, ids = read_image(files["image"]), read_ids(files["panoptic"])
        except DataError as error:
            raise DataError(f"{error} {item}") from error
        entries = {segment.id for segment in record.segments}
        for problem in (*size_problems(ids, image.shape[:2]), *pixel_problems(ids, entries)):
            raise DataError(f"{files['panoptic']}: {problem} {item}")
        return Sample(record.image, record.image_id, image, ids[None], record.segments)

    def problems(self, labels: Labels) -> Iterator[str]:
        """Yield a line per problem of the JSON, the pictures and the PNGs; what cannot be looked at is passed over."""
        path, folders = self.source.annotations, (self.folder("image"), self.folder("panoptic"))
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
        by_id = {row["id"]: row for row in pictures if isinstance(row.get("id"), int | str)}
        progress = Progress(f"check {path}", "images")
        for number, row in enumerate(annotations, start=1):
            image_id = row.get("image_id")
            if isinstance(image_id, int | str):
                item = f"(image {image_id} of {path})"
                yield from (f"{problem} {item}" for problem in file_problems(by_id.get(image_id, {}), row, *folders))
            progress(number, len(annotations))

    def picture_names(self, labels: Labels) -> list[str]:
        """Return the names of the annotated pictures; the others belong to a longer list, of which this is a part."""
        path = self.source.annotations
        document = read_json(path)
        annotated = {repr(row.get("image_id")) for row in listed(document, "annotations", path)}
        rows = [row for row in listed(document, "images", path) if repr(row.get("id")) in annotated]
        return [row["file_name"] for row in rows if is_name(row.get("file_name"))]

    def documents(self, records: Sequence[Record]) -> list[Any]:
        """Return a COCO document about each picture, its rows as they stand in the JSON."""
        path = self.source.annotations
        document = read_json(path)
        pictures = {row["id"]: row for row in listed(document, "images", path)}
        rows = listed(document, "annotations", path)
        return [{"images": [pictures[row["image_id"]]], "annotations": [row]} for row in rows]

    def record(self, document: Any, labels: Labels) -> Record:
        """Return the record of a document about one picture."""
        return only(records_in(document, self.source.annotations, labels), self.source.annotations)

    @classmethod
    def from_row(cls, row: list[Any]) -> Record:
        """Return the record of its fields as JSON values."""
        image_id, image, panoptic, segments = row
        return Record(image_id, image, panoptic, tuple(SegmentInfo(*segment) for segment in segments))


def read_records(path: str, labels: Labels) -> tuple[Record, ...]:
    """Return the annotated pictures of a COCO panoptic JSON.

    Raises:
        DataError: The first inconsistency; the message begins with the file and names image and segment.
    """
    return records_in(read_json(path), path, labels)


def records_in(document: Any, path: str, labels: Labels) -> tuple[Record, ...]:
    """Return the annotated pictures of a COCO panoptic document that a path names; see `read_records`."""
    images, annotations = listed(document, "images", path), listed(document, "annotations", path)
    for problem in (*category_problems(document, labels), *json_problems(images, annotations, labels)):
        raise DataError(f"{path}: {problem}")
    if not annotations:
        raise DataError(f"{path}: has no annotations")
    if len(images) > len(annotations):
        bare = len(images) - len(annotations)
        logger.warning("%s: %d of %d images have no annotation and are left out", path, bare, len(images))
    names = {row["id"]: row["file_name"] for row in images}
    return tuple(
        Record(row["image_id"], names[row["image_id"]], row["file_name"], segments(row["segments_info"], labels))
        for row in annotations
    )


def segments(rows: Sequence[Mapping[str, Any]], labels: Labels) -> tuple[SegmentInfo, ...]:
    """Return the segments of one annotation, whose rows must have no problems."""
    found = []
    for row in rows:
        index = labels.indices[row["category_id"]]
        found.append(SegmentInfo(row["id"], index, labels[index].isthing, bool(row.get("iscrowd", 0))))
    return tuple(found)


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


def file_problems(
    picture: Mapping[str, Any], row: Mapping[str, Any], images: Folder, panoptic: Folder
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
