"""An annotation format: the class that every format, built in or of a plugin, extends."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from oneformer_data.datasets import DataSet, Samples
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.record_cache import blocks, column, packed, record_file
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample
from oneformer_spec.commands.progress import Progress
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.files.images import Content
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.task_declarations import in_order

IMAGE = "image"
"""The field of a record that names its picture."""

Record = TypeVar("Record")
File = Path | Content


class Format(ABC):
    """The annotations of one data set, in some format. Making one opens no file.

    An installed format is a subclass that `oneformer_spec.hooks.Dataset` names. It must be able to `open` its data;
    what the other methods answer follows from that, or is overridden where the format knows better or more. Formats
    of pictures in files extend `FileFormat`, which does the most.
    """

    def __init__(self, source: Source) -> None:
        """Take the paths of a data set; a format with options takes them as keywords."""
        self.source = source

    @abstractmethod
    def open(self, labels: Labels) -> DataSet:
        """Return the samples, their classes by index into the label map.

        Raises:
            SpecError: A path that the format needs is not set.
            DataError: The annotations are wrong or a file is missing: the first problem, with file and item.
        """

    def labels(self) -> Labels:
        """Return the classes that the annotations name themselves, for specs without a label map.

        Raises:
            SpecError: They name none.
            DataError: They cannot be read, or a class is wrong.
        """
        path, section = self.source.annotations, self.source.section
        raise SpecError(f"dataset.label_map: is not set, and {path} has no categories ({section}.annotations)")

    def tasks(self, labels: Labels) -> tuple[str, ...]:
        """Return the tasks that these annotations have targets for: all that the format declares, or fewer."""
        return in_order(self.source.declared.tasks)

    def problems(self, labels: Labels) -> Iterator[str]:
        """Yield a line per problem, with file and item; every picture and mask is decoded.

        Raises:
            SpecError: A path that the format needs is not set.
        """
        try:
            samples = self.open(labels)
        except DataError as error:
            yield str(error)
            return
        yield from _unreadable(samples, f"check {self.source.annotations}")

    def pictures(self, labels: Labels) -> list[Path] | None:
        """Return the pictures that exist, each once, as far as annotations with problems can be read.

        None where pictures are not files of their own.
        """
        return None

    def num_pictures(self, labels: Labels) -> int:
        """Return how many pictures there are; 0 where the annotations cannot be read."""
        try:
            pictures = self.pictures(labels)
            return len(self.open(labels) if pictures is None else pictures)
        except DataError:
            return 0

    def may_overlap(self) -> bool:
        """Return whether two segments of a picture can share a pixel."""
        return True


class FileFormat(Format, Generic[Record]):
    """A format whose annotations describe pictures in files, and name further files such as masks.

    A record describes one picture without its pixels: a frozen dataclass of numbers, texts and tuples of them, with the
    picture's name in the field `image`. `members` lists its other fields that name a file, each with the suffix of that
    file in tar shards, such as {"mask": "semantic.png"}.
    """

    record_type: ClassVar[type]
    members: ClassVar[Mapping[str, str]] = {}

    def __init__(self, source: Source) -> None:
        """Take the paths of a data set."""
        super().__init__(source)
        self._folders: dict[str, Folder] = {}

    @abstractmethod
    def records(self, labels: Labels) -> Sequence[Record]:
        """Return the records in the order of the annotations.

        Raises:
            DataError: The annotations are wrong; the first problem, with file and item.
        """

    @abstractmethod
    def sample(self, record: Record, files: Mapping[str, File], labels: Labels) -> Sample:
        """Decode a record's files: its picture, `files["image"]`, and those of `members`, on disk or in memory.

        Raises:
            DataError: A file is damaged, or they disagree.
        """

    def inputs(self) -> Iterator[bytes]:
        """Yield all that the records depend on but the label map, such as the annotation file; see `dataset_type`.

        Raises:
            DataError: It cannot be read.
        """
        yield from blocks(self.source.annotations)

    def root(self, field: str) -> str | Path:
        """Return the folder that names in a field start from: that of the pictures, else the annotations' own."""
        return self.source.images or Path(self.source.annotations).parent

    def where(self, record: Record) -> str:
        """Return what errors call a record, such as its line in the annotations."""
        return self.home(record)

    def home(self, record: Record) -> str:
        """Return the file that holds a record, with the line where it has one."""
        return self.source.annotations

    def folder(self, field: str) -> Folder:
        """Return the folder of the files that a field names."""
        if field not in self._folders:
            self._folders[field] = Folder(self.root(field), allow_outside=self.source.allow_outside_root)
        return self._folders[field]

    def files(self, record: Record) -> dict[str, File]:
        """Return where the files of a record lie, by field."""
        return {field: self.folder(field).path(getattr(record, field)) for field in (IMAGE, *self.members)}

    def checked_records(self, labels: Labels) -> Sequence[Record]:
        """Return the records, in memory or mapped from a file as the spec says; every file that they name exists.

        Raises:
            SpecError: A folder is not set.
            DataError: The annotations are wrong, or a file is missing.
        """
        fields = (IMAGE, *self.members)
        folders = {field: self.folder(field) for field in fields}
        records = self._kept(labels, fields)
        for field, folder in folders.items():
            for position, problem in folder.problems(column(records, field)):
                raise DataError(f"{problem} ({self.where(records[position])})")
        return records

    def _kept(self, labels: Labels, fields: Sequence[str]) -> Sequence[Record]:
        if not self.source.serialized:
            return self.records(labels)
        path = record_file(self.record_type, labels, self.inputs())
        return packed(path, lambda: self.records(labels), self.from_row, fields, self.source.annotations)

    def open(self, labels: Labels) -> Samples[Record]:
        """Return the samples, their classes by index into the label map."""
        return Samples(self.checked_records(labels), partial(self.load, labels=labels), self.tasks(labels))

    def load(self, record: Record, labels: Labels) -> Sample:
        """Decode a record from its files on disk."""
        return self.sample(record, self.files(record), labels)

    def problems(self, labels: Labels) -> Iterator[str]:
        """Yield a line per problem; what is wrong with one picture hides nothing of the next."""
        try:
            records = self.records(labels)
        except DataError as error:
            yield str(error)
            return
        progress = Progress(f"check {self.source.annotations}", "images")
        for number, record in enumerate(records, start=1):
            yield from self._problems(record, labels)
            progress(number, len(records))

    def _problems(self, record: Record, labels: Labels) -> Iterator[str]:
        missing = [self.folder(field).problem(getattr(record, field)) for field in (IMAGE, *self.members)]
        if any(missing):
            yield from (f"{problem} ({self.where(record)})" for problem in missing if problem)
            return
        try:
            self.load(record, labels)
        except DataError as error:
            yield str(error)

    def pictures(self, labels: Labels) -> list[Path]:
        """Return the pictures that exist, each once, in order."""
        folder = self.folder(IMAGE)
        try:
            names = dict.fromkeys(self.picture_names(labels))
        except DataError:
            return []
        return [folder.path(name) for name in names if folder.problem(name) is None]

    def picture_names(self, labels: Labels) -> list[str]:
        """Return the names of all pictures, as far as annotations with problems can be read."""
        return [getattr(record, IMAGE) for record in self.records(labels)]

    def documents(self, records: Sequence[Record]) -> Sequence[Any]:
        """Return what the annotations say of each record as JSON values, for tar shards; class indices may not appear.

        The records must have no problems.
        """
        return [_fields(record) for record in records]

    def record(self, document: Any, labels: Labels) -> Record:
        """Return the record of one of `documents`.

        Raises:
            DataError: It is something else.
        """
        names = [item.name for item in dataclasses.fields(self.record_type)]
        if not isinstance(document, Mapping) or not document.keys() >= set(names):
            raise DataError(f"{self.source.annotations}: expected an object with {', '.join(names)}")
        return self.from_row([document[name] for name in names])

    @classmethod
    def from_row(cls, row: list[Any]) -> Record:
        """Return the record of its fields as JSON values: lists become tuples, nested dataclasses need their own."""
        record: Record = cls.record_type(*map(_tuples, row))
        return record

    @classmethod
    def bare_document(cls, image: str) -> Any | None:
        """Return the document of a sample in a tar file that has none, or None where there must be one."""
        return None


def _unreadable(samples: DataSet, what: str) -> Iterator[str]:
    """Yield what is wrong with the samples that cannot be decoded."""
    progress = Progress(what, "images")
    for index in range(len(samples)):
        try:
            samples[index]
        except DataError as error:
            yield str(error)
        progress(index + 1, len(samples))


def _fields(record: Any) -> dict[str, Any]:
    return dataclasses.asdict(record)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
