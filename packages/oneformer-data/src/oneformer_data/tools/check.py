"""`oneformer dataset check`: find every problem in annotated data, and images that two splits share."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from oneformer_data.evaluation.report import aligned
from oneformer_data.opening.format import Format
from oneformer_data.opening.loading import format_of, read_label_map, read_labels
from oneformer_data.opening.selection import split_sources
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample
from oneformer_spec.commands.exit import note
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels
from oneformer_spec.schema import DatasetSection, Spec


@dataclass(frozen=True)
class CheckedSet:
    """The result of checking one data set.

    `overlapping` counts segments that share pixels with another one, which is allowed. It is None if the format rules
    that out, or if the data set has problems.
    """

    split: str
    annotations: str
    images: int
    problems: int
    overlapping: int | None


@dataclass(frozen=True)
class Findings:
    """The result of checking all data sets: one line per problem; `shared` of them are images in two splits."""

    data_sets: tuple[CheckedSet, ...]
    problems: tuple[str, ...]
    shared: int

    def document(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "images": sum(checked.images for checked in self.data_sets),
            "data_sets": [asdict(checked) for checked in self.data_sets],
            "problems": list(self.problems),
        }

    def table(self) -> str:
        """Return a text table with one row per data set."""
        head = ["split", "images", "problems", "overlapping segments", "annotations"]
        rows = [
            [
                checked.split,
                str(checked.images),
                str(checked.problems),
                "-" if checked.overlapping is None else str(checked.overlapping),
                checked.annotations,
            ]
            for checked in self.data_sets
        ]
        return aligned([head, *rows])


def check(dataset: DatasetSection, on_problem: Callable[[str], object]) -> Findings:
    """Check the data of every split in the spec; `on_problem` is called with each problem as soon as it is found.

    Raises:
        SpecError: No split is set, or the format of a split is not installed.
        DataError: The label map is invalid.
    """
    splits = split_sources(dataset)
    labels = read_label_map(dataset)
    formats = {source: _format(source) for sources in splits.values() for source in sources}
    pictures = {source: format and format.pictures(labels) for source, format in formats.items()}
    problems: list[str] = []
    checked = []
    for split, sources in splits.items():
        for source in sources:
            before = len(problems)
            for problem in source_problems(source, labels):
                on_problem(problem)
                problems.append(problem)
            checked.append(_checked(split, formats[source], source, len(problems) - before, labels))
    if len(splits) > 1 and any(formats[source] and paths is None for source, paths in pictures.items()):
        note("images that are not files, such as those in shards, are not compared with those of other splits")
    shared = 0
    for problem in shared_pictures(splits, {source: paths or () for source, paths in pictures.items()}):
        on_problem(problem)
        problems.append(problem)
        shared += 1
    return Findings(tuple(checked), tuple(problems), shared)


def _format(source: Source) -> Format | None:
    """Return the format of a data set, or None if its annotations are missing (reported as a problem elsewhere)."""
    with suppress(DataError):
        return format_of(source)
    return None


def _checked(split: str, format: Format | None, source: Source, problems: int, labels: Labels) -> CheckedSet:
    images = 0 if format is None else format.num_pictures(labels)
    overlapping = None
    if format is not None and not problems and format.may_overlap():
        samples = format.open(labels)
        overlapping = sum(overlapping_segments(samples[index]) for index in range(len(samples)))
    return CheckedSet(split, source.annotations, images, problems, overlapping)


def overlapping_segments(sample: Sample) -> int:
    """Return how many segments of an image share a pixel with another one."""
    covered = (sample.id_maps > 0).sum(axis=0) > 1  # (H, W)
    ids = np.unique(sample.id_maps[:, covered])
    return int((ids > 0).sum())


def problems(spec: Spec) -> Iterator[str]:
    """Yield one line per problem in the data of every split of a spec: file, item, what is wrong.

    Raises:
        SpecError: The spec has no data or no label map, or the format of a split is not installed.
    """
    every = [source for split in split_sources(spec.dataset).values() for source in split]
    try:
        labels = read_labels(spec)
    except DataError as error:
        yield str(error)
        return
    for source in dict.fromkeys(every):
        yield from source_problems(source, labels)


def source_problems(source: Source, labels: Labels) -> Iterator[str]:
    """Yield one line per problem of one data set."""
    try:
        yield from format_of(source).problems(labels)
    except DataError as error:
        yield str(error)


def shared_pictures(splits: Mapping[str, Sequence[Source]], files: Mapping[Source, Sequence[Path]]) -> Iterator[str]:
    """Yield one line per image that two splits share, as the same file or as a file with the same content.

    Two splits with the same annotations and the same images share them on purpose: that is one line if one of them is
    `train`, and none for `val` and `test`.
    """
    for (first, its), (second, others) in combinations(splits.items(), 2):
        theirs_by_name = {source.annotations: files[source] for source in others}
        same = {source.annotations for source in its if theirs_by_name.get(source.annotations) == files[source]}
        if "train" in (first, second):
            yield from (f"{path}: is the data of dataset.{first} and of dataset.{second}" for path in sorted(same))
        mine = [path for source in its if source.annotations not in same for path in files[source]]
        theirs = [path for source in others if source.annotations not in same for path in files[source]]
        for path, twin in _twins(mine, theirs):
            if path == twin:
                yield f"{path}: is in dataset.{first} and in dataset.{second}"
            else:
                yield f"{twin}: in dataset.{second} has the same content as {path} in dataset.{first}"


def _twins(mine: Sequence[Path], theirs: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield pairs of files with the same content; only files of a size in bytes that occurs on both sides are read."""
    own = dict.fromkeys(mine)
    by_length: dict[int, list[Path]] = defaultdict(list)
    for path in own:
        by_length[path.stat().st_size].append(path)
    digests: dict[int, dict[bytes, Path]] = {}
    for twin in dict.fromkeys(theirs):
        length = twin.stat().st_size
        if twin in own:
            yield twin, twin
        elif length in by_length:
            if length not in digests:
                digests[length] = {_digest(path): path for path in by_length[length]}
            original = digests[length].get(_digest(twin))
            if original is not None:
                yield original, twin


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
