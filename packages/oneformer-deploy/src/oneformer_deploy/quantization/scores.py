"""Scores of a model file before and after a change: real ones where there are labels, else agreement with before."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.commands.exit import note
from oneformer_spec.files.images import read_image
from oneformer_spec.plugins.headlines import headline_numbers
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.plugins.task_declarations import declared_tasks
from oneformer_spec.results import Segmentation
from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.segmenter import Segmenter
from oneformer_spec.tasks import TASKS

Open = Callable[[Path], Segmenter]
"""Opens a model file as it will be served."""

PICTURES = 24  # that agreement is measured on
SAME = 0.5  # intersection over union above which two segments are one


class Score(Protocol):
    """`kind` says in words what the numbers are."""

    kind: str

    def __call__(self, path: Path) -> dict[str, float]:
        """Return a number of 0..1 per score."""


def scorer(spec: Spec, source: Path, pictures: Sequence[Path], scratch: Path, open_file: Open) -> Score:
    """Return what scores files: `evaluate` on the spec's labelled data, else agreement with `source` on pictures."""
    labelled = spec.dataset.test.annotations or spec.dataset.val.annotations
    if labelled and "evaluate" in registry().commands:
        return Metrics(spec, scratch)
    missing = "oneformer-data is not installed" if labelled else "dataset.val and dataset.test are not set"
    note(f"{missing}: the loss is measured as disagreement with the float model on calibration images")
    return Agreement(source, tuple(pictures[:PICTURES]), open_file)


@dataclass
class Metrics:
    """The headline numbers of `evaluate`: PQ, mask AP, mIoU, and those of plugins' evaluators."""

    spec: Spec
    scratch: Path
    kind: str = "PQ, mask AP and mIoU on labelled images"

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the scores of the tasks that the data has labels for."""
        evaluate = replace(
            self.spec.evaluate, checkpoint=str(path), trt_engine="", results_dir=str(self.scratch / "evaluate")
        )
        spoken = io.StringIO()
        with contextlib.redirect_stdout(spoken), contextlib.redirect_stderr(spoken):
            resolve(registry().command("evaluate").target)(replace(self.spec, evaluate=evaluate))
        metrics = json.loads((self.scratch / "evaluate" / "metrics.json").read_text())
        found: dict[str, float] = {}
        for task in (*reversed(TASKS), *declared_tasks()):  # PQ, the number of the whole picture, comes first
            found |= headline_numbers(metrics, [task])
        return {name: value for name, value in found.items() if value >= 0}


@dataclass
class Agreement:
    """How far a model agrees with another on pictures, per task: pixels of one class, and segments found again."""

    source: Path
    pictures: tuple[Path, ...]
    open_file: Open
    kind: str = "agreement with the float model"

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the mean over pictures; 1 is full agreement."""
        rows = [
            [_agreement(one, other) for one, other in zip(was, now, strict=True)]
            for was, now in zip(self._expected, self._results(path), strict=True)
        ]
        return {task: float(np.mean(column)) for task, column in zip(self._tasks, zip(*rows, strict=True), strict=True)}

    @cached_property
    def _expected(self) -> list[list[Segmentation]]:
        return list(self._results(self.source))

    @cached_property
    def _tasks(self) -> list[str]:
        return [str(task) for task in self.open_file(self.source).manifest.tasks]

    def _results(self, path: Path) -> Iterator[list[Segmentation]]:
        segmenter = self.open_file(path)
        for picture in self.pictures:
            pixels = read_image(picture)
            yield [segmenter.predict([pixels], task)[0] for task in segmenter.manifest.tasks]


def _agreement(one: Segmentation, other: Segmentation) -> float:
    """Pixels of the same class where the maps hold classes; else matched segments over all, as F1."""
    if one.holds_classes:
        return float((one.map == other.map).mean())
    if not one.segments and not other.segments:
        return 1.0
    kinds = [{segment.id: segment.category_id for segment in result.segments} for result in (one, other)]
    matched = sum(kinds[0].get(first) == kinds[1].get(second) for first, second in _overlapping(one.map, other.map))
    return 2 * matched / (len(one.segments) + len(other.segments))


def _overlapping(one: NDArray[np.int32], other: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of ids, 0 left out, whose regions are the same by intersection over union."""
    ids, counts = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1, return_counts=True)
    areas: list[dict[Any, int]] = [
        dict(zip(*np.unique(part, return_counts=True), strict=True)) for part in (one, other)
    ]
    for (first, second), shared in zip(ids.T.tolist(), counts.tolist(), strict=True):
        if first and second and shared / (areas[0][first] + areas[1][second] - shared) > SAME:
            yield first, second
