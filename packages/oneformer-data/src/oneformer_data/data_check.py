"""`oneformer dataset check`: every problem of the annotated data, and pictures that two splits share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oneformer_data.check import source_problems
from oneformer_data.loading import open_source, read_label_map
from oneformer_data.pictures import picture_files, shared_pictures
from oneformer_data.report import aligned
from oneformer_data.sample import Sample
from oneformer_data.selection import split_sources
from oneformer_data.shards.opening import open_index
from oneformer_data.sources import SHARDS, Source, source_type
from oneformer_spec.entry import note
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels
from oneformer_spec.schema import DatasetSection

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
