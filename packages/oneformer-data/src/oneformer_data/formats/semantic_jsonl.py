"""Semantic masks: a file with one JSON object per line, `{"img": picture, "segm": mask}`.

A pixel of the mask, gray of 8 or 16 bits or palette, is a category id; 0 is unlabelled. Both names start from the
folder of pictures, or from the file's own folder where none is set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.coco_images import is_name, size_problem
from oneformer_data.formats.id_png import read_classes
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.format import File, FileFormat
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import Task


@dataclass(frozen=True)
class Record:
    """One line, counted from 1: the names of a picture and of its mask."""

    line: int
    image: str
    mask: str


class SemanticJsonl(FileFormat[Record]):
    """The type `semantic_jsonl`."""

    record_type = Record
    members: ClassVar[Mapping[str, str]] = {"mask": "semantic.png"}

    def tasks(self, labels: Labels) -> tuple[str, ...]:
        """Return the semantic task, and the panoptic one where every class is stuff."""
        all_stuff = not any(label.isthing for label in labels)
        return (Task.SEMANTIC, Task.PANOPTIC) if all_stuff else (Task.SEMANTIC,)

    def home(self, record: Record) -> str:
        """Return the file and the line."""
        path = self.source.annotations
        return f"{path}:{record.line}" if record.line else path

    def may_overlap(self) -> bool:
        """Return False: a pixel of a mask holds one class."""
        return False

    def records(self, labels: Labels) -> tuple[Record, ...]:
        """Return the lines."""
        return read_records(self.source.annotations)

    def sample(self, record: Record, files: Mapping[str, File], labels: Labels) -> Sample:
        """Decode the picture and the mask of a record, of one size; each class that occurs is one segment."""
        item = f"({self.where(record)})"
        try:
            image, classes = read_image(files["image"]), read_classes(files["mask"])
        except DataError as error:
            raise DataError(f"{error} {item}") from error
        problem = size_problem(classes.shape, image.shape[:2])
        for line in (*([problem] if problem else []), *value_problems(classes, labels)):
            raise DataError(f"{files['mask']}: {line} {item}")
        present = [value for value in sorted(value_counts(classes)) if value]
        segments = tuple(
            SegmentInfo(value, index, labels[index].isthing, is_crowd=False)
            for value in present
            for index in [labels.indices[value]]
        )
        return Sample(record.image, record.image, image, classes[None], segments)

    def problems(self, labels: Labels) -> Iterator[str]:
        """Yield a line per problem of the lines, the pictures and the masks."""
        path, folder = self.source.annotations, self.folder("image")
        try:
            lines = list(parse(path))
        except DataError as error:
            yield str(error)
            return
        if not lines:
            yield f"{path}: has no lines"
        progress = Progress(f"check {path}", "images")
        for number, record in enumerate(lines, start=1):
            if isinstance(record, str):
                yield record
            else:
                yield from (f"{problem} ({path}:{record.line})" for problem in file_problems(record, folder, labels))
            progress(number, len(lines))

    def picture_names(self, labels: Labels) -> list[str]:
        """Return the pictures of all lines without a problem."""
        return [record.image for record in parse(self.source.annotations) if isinstance(record, Record)]

    def documents(self, records: Sequence[Record]) -> list[Any]:
        """Return what each line says."""
        return [{"img": record.image, "segm": record.mask} for record in records]

    def record(self, document: Any, labels: Labels) -> Record:
        """Return the record of what a line says."""
        found = record_in(document, 0, self.source.annotations)
        if isinstance(found, str):
            raise DataError(found)
        return found

    @classmethod
    def bare_document(cls, image: str) -> Any:
        """Return what a line would say: a mask alone suffices."""
        return {"img": image, "segm": image}


def read_records(path: str) -> tuple[Record, ...]:
    """Return the lines of a file; empty ones do not count.

    Raises:
        DataError: The first line that is wrong, or there is none.
    """
    records = []
    for record in parse(path):
        if isinstance(record, str):
            raise DataError(record)
        records.append(record)
    if not records:
        raise DataError(f"{path}: has no lines")
    return tuple(records)


def parse(path: str) -> Iterator[Record | str]:
    """Yield a record per line, or what is wrong with it.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None
    seen: set[str] = set()
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        record = _record(text, number, path)
        if isinstance(record, Record) and record.image in seen:
            yield f"{path}:{number}: the image {record.image} occurs twice"
            continue
        if isinstance(record, Record):
            seen.add(record.image)
        yield record


def value_problems(classes: NDArray[np.int32], labels: Labels) -> Iterator[str]:
    """Yield which values of a mask (H, W) are the id of no category."""
    for value, pixels in sorted(value_counts(classes).items()):
        if value and value not in labels.indices:
            yield f"the value {value} ({pixels} pixels) is not in the label map"


def file_problems(record: Record, folder: Folder, labels: Labels) -> Iterator[str]:
    """Yield the problems of one picture and its mask, and of the two together where both can be decoded."""
    size = classes = None
    try:
        size = read_image(folder.allowed(record.image)).shape[:2]
    except DataError as error:
        yield str(error)
    try:
        classes = read_classes(folder.allowed(record.mask))
    except DataError as error:
        yield str(error)
    if classes is None:
        return
    problem = None if size is None else size_problem(classes.shape, size)
    for line in (*([problem] if problem else []), *value_problems(classes, labels)):
        yield f"{folder.path(record.mask)}: {line}"


def _record(text: str, number: int, path: str) -> Record | str:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        column = error.colno if isinstance(error, json.JSONDecodeError) else 1
        return f"{path}:{number}:{column}: not JSON: {error.msg if isinstance(error, json.JSONDecodeError) else error}"
    return record_in(row, number, f"{path}:{number}")


def record_in(row: object, number: int, where: str) -> Record | str:
    """Return the record of a line's JSON value, or what is wrong with it; `where` names it."""
    if not isinstance(row, dict):
        return f"{where}: expected an object with img and segm, found {type(row).__name__}"
    for field in ("img", "segm"):
        if not is_name(row.get(field)):
            return f"{where}: {field} must be a file name, found {row.get(field)!r}"
    return Record(number, row["img"], row["segm"])
