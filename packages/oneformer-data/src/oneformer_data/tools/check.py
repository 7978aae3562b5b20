"""`oneformer dataset check`: every problem of the annotated data, and pictures that two splits share."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from oneformer_data.evaluation.report import aligned
from oneformer_data.opening.documents import listed, read_json
from oneformer_data.opening.folders import Folder
from oneformer_data.opening.loading import open_source, read_label_map, read_labels, reader
from oneformer_data.opening.selection import split_sources
from oneformer_data.opening.sources import SHARDS, Source, source_type
from oneformer_data.sample import Sample
from oneformer_data.shards.locating import open_index
from oneformer_spec.commands.exit import note
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.schema import DatasetSection, Spec

_WITHOUT_OVERLAP = ("coco_panoptic", "semantic_jsonl")  # a pixel of a PNG holds one value


@dataclass(frozen=True)
class CheckedSet:
    """What was found in one data set.

    `overlapping` counts the segments that share pixels with another one, which is no problem; None where the format
    has no such pixels, or problems keep the data from being read.
    """

    split: str
    annotations: str
    images: int
    problems: int
    overlapping: int | None


@dataclass(frozen=True)
class Findings:
    """What was found in all data sets: `problems` holds a line each, `shared` of them are about two splits."""

    data_sets: tuple[CheckedSet, ...]
    problems: tuple[str, ...]
    shared: int

    def document(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {
            "images": sum(checked.images for checked in self.data_sets),
            "data_sets": [asdict(checked) for checked in self.data_sets],
            "problems": list(self.problems),
        }

    def table(self) -> str:
        """Return a row per data set."""
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


def check(dataset: DatasetSection, tell: Callable[[str], object]) -> Findings:
    """Check the data of every split that is set, and call `tell` with each problem when it is found.

    Raises:
        SpecError: No split is set, or a type has no reader.
        DataError: The label map is wrong.
    """
    splits = split_sources(dataset)
    labels = read_label_map(dataset)
    files = {source: picture_files(source) for sources in splits.values() for source in sources}
    problems: list[str] = []
    checked = []
    for split, sources in splits.items():
        for source in sources:
            before = len(problems)
            for problem in source_problems(source, labels):
                tell(problem)
                problems.append(problem)
            found = len(problems) - before
            overlapping = None if found else _overlapping(source, labels)
            checked.append(CheckedSet(split, source.annotations, _images(source, files), found, overlapping))
    if len(splits) > 1 and any(_is_shards(source) for sources in splits.values() for source in sources):
        note("images in shards are not compared with those of other splits")
    shared = 0
    for problem in shared_pictures(splits, files):
        tell(problem)
        problems.append(problem)
        shared += 1
    return Findings(tuple(checked), tuple(problems), shared)


def overlapping_segments(sample: Sample) -> int:
    """Return how many segments of a picture share a pixel with another one."""
    covered = (sample.id_maps > 0).sum(axis=0) > 1  # (H, W)
    ids = np.unique(sample.id_maps[:, covered])
    return int((ids > 0).sum())


def _images(source: Source, files: Mapping[Source, Sequence[Path]]) -> int:
    """Return how many pictures a data set has; shards have theirs inside."""
    with suppress(DataError):
        return len(open_index(source)[0]) if _is_shards(source) else len(files[source])
    return 0


def _is_shards(source: Source) -> bool:
    with suppress(DataError):
        return source_type(source) == SHARDS
    return False


def _overlapping(source: Source, labels: Labels) -> int | None:
    if (open_index(source)[0].type if _is_shards(source) else source_type(source)) in _WITHOUT_OVERLAP:
        return None
    samples = open_source(source, labels)
    return sum(overlapping_segments(samples[index]) for index in range(len(samples)))


def problems(spec: Spec) -> Iterator[str]:
    """Yield a line per problem of every split that is set: file, item, what was found.

    Raises:
        SpecError: The spec names no data, no label map, or a type that no installed reader reads.
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
    """Yield the problems of one data set, through the check of its reader or by reading every sample."""
    try:
        found = reader(source, source_type(source))
        if found.check is not None:
            yield from resolve(found.check)(source, labels)
            return
        samples = resolve(found.target)(source, labels)
    except DataError as error:
        yield str(error)
        return
    for index in range(len(samples)):
        try:
            samples[index]
        except DataError as error:
            yield str(error)


def picture_files(source: Source) -> list[Path]:
    """Return the pictures of a data set that exist, in its order; none where no reader here tells their names."""
    try:
        names = _NAMES.get(source_type(source), _no_names)(source)
    except DataError:
        return []  # a problem that the check of the annotations tells of
    root = Folder(source.images or Path(source.annotations).parent, allow_outside=source.allow_outside_root)
    unique = dict.fromkeys(name for name in names if isinstance(name, str) and name)
    return [root.path(name) for name in unique if root.problem(name) is None]


def shared_pictures(splits: Mapping[str, Sequence[Source]], files: Mapping[Source, Sequence[Path]]) -> Iterator[str]:
    """Yield a line per picture that two splits share, as the same file or as a file of the same content.

    Two splits that name the same annotations share them on purpose: one line where one of them is `train`, none for
    `val` and `test`.
    """
    for (first, its), (second, others) in combinations(splits.items(), 2):
        same = {source.annotations for source in its} & {source.annotations for source in others}
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
    """Yield the pairs of files with one content; only files whose length in bytes occurs on both sides are read."""
    known = dict.fromkeys(mine)
    by_length: dict[int, list[Path]] = defaultdict(list)
    for path in known:
        by_length[path.stat().st_size].append(path)
    digests: dict[int, dict[bytes, Path]] = {}
    for twin in dict.fromkeys(theirs):
        length = twin.stat().st_size
        if twin in known:
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


def _panoptic_names(source: Source) -> list[object]:
    """Pictures without an annotation belong to a longer list, of which this file annotates a part."""
    document = read_json(source.annotations)
    annotated = {repr(row.get("image_id")) for row in listed(document, "annotations", source.annotations)}
    rows = listed(document, "images", source.annotations)
    return [row.get("file_name") for row in rows if repr(row.get("id")) in annotated]


def _instance_names(source: Source) -> list[object]:
    return [row.get("file_name") for row in listed(read_json(source.annotations), "images", source.annotations)]


def _line_names(source: Source) -> list[object]:
    names: list[object] = []
    with suppress(OSError, UnicodeDecodeError), open(source.annotations, encoding="utf-8-sig") as lines:
        for line in lines:
            with suppress(ValueError, RecursionError, AttributeError):  # no JSON, or no object
                names.append(json.loads(line).get("img"))
    return names


def _no_names(source: Source) -> list[object]:
    return []


_NAMES: Mapping[str, Callable[[Source], list[Any]]] = {
    "coco_panoptic": _panoptic_names,
    "coco_instance": _instance_names,
    "semantic_jsonl": _line_names,
}
