"""COCO panoptic annotations: one JSON file, one folder of pictures, one folder of PNG id maps.

The JSON is parsed once, when a data set is opened; what it gets wrong and which files are missing is found then.
Pictures and PNGs are decoded when a sample is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from oneformer_data.datasets import Samples
from oneformer_data.formats.id_png import read_ids
from oneformer_data.formats.panoptic_check import json_problems, pixel_problems, size_problems
from oneformer_data.opening.categories import category_problems
from oneformer_data.opening.documents import listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.record_cache import column, kept
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import Content, read_image
from oneformer_spec.labels import Labels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One annotated picture as the JSON states it: file names and segments, no pixels."""

    image_id: int | str
    image: str
    panoptic: str
    segments: tuple[SegmentInfo, ...]

    @classmethod
    def from_row(cls, row: list[Any]) -> Record:
        """Return the record of a packed row."""
        image_id, image, panoptic, segments = row
        return cls(image_id, image, panoptic, tuple(SegmentInfo(*segment) for segment in segments))


def open_panoptic(source: Source, labels: Labels) -> Samples[Record]:
    """Open a data set of type `coco_panoptic`.

    Raises:
        SpecError: A folder is not set.
        DataError: The annotations are wrong, or a file that they name is missing.
    """
    images = Folder(source.required("images"), allow_outside=source.allow_outside_root)
    panoptic = Folder(source.required("panoptic"), allow_outside=source.allow_outside_root)
    path = source.annotations
    records = kept(source, labels, lambda: read_records(path, labels), Record.from_row, ("image", "panoptic"))
    for folder, field in ((images, "image"), (panoptic, "panoptic")):
        for position, problem in folder.problems(column(records, field)):
            raise DataError(f"{problem} (image {records[position].image_id} of {path})")
    return Samples(records, partial(load, source=path, images=images, panoptic=panoptic))


def load(record: Record, *, source: str, images: Folder, panoptic: Folder) -> Sample:
    """Decode the picture and the ids of a record; `source` names it in errors.

    Raises:
        DataError: A file is damaged, or the PNG disagrees with the picture or with the JSON.
    """
    return decode(record, images.path(record.image), panoptic.path(record.panoptic), source=source)


def decode(record: Record, picture: Path | Content, png: Path | Content, *, source: str) -> Sample:
    """Decode the two files of a record, wherever they are; see `load`."""
    item = f"(image {record.image_id} of {source})"
    try:
        image, ids = read_image(picture), read_ids(png)
    except DataError as error:
        raise DataError(f"{error} {item}") from error
    entries = {segment.id for segment in record.segments}
    for problem in (*size_problems(ids, image.shape[:2]), *pixel_problems(ids, entries)):
        raise DataError(f"{png}: {problem} {item}")
    return Sample(record.image, record.image_id, image, ids[None], record.segments)


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
