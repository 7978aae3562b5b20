"""Score a quantized model: with `evaluate` if there are labelled images, else by agreement with the float model."""

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

OpenModel = Callable[[Path], Segmenter]
"""Opens a model file with the runtime that will serve it."""

AGREEMENT_IMAGES = 24
MATCH_IOU = 0.5  # segments with a larger intersection over union count as the same


class Scorer(Protocol):
    """Scores a model file; `kind` describes the scores in words."""

    kind: str

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the scores of a model file by name, each 0..1, higher is better."""


def make_scorer(spec: Spec, source: Path, images: Sequence[Path], scratch: Path, open_file: OpenModel) -> Scorer:
    """Return a scorer: `evaluate` if the spec has labelled data, else agreement with `source` on unlabelled images."""
    labelled = spec.dataset.test.annotations or spec.dataset.val.annotations
    if labelled and "evaluate" in registry().commands:
        return MetricScorer(spec, scratch)
    missing = "oneformer-data is not installed" if labelled else "dataset.val and dataset.test are not set"
    note(f"{missing}; the quantized model is scored by its agreement with the float model on calibration images")
    return AgreementScorer(source, tuple(images[:AGREEMENT_IMAGES]), open_file)


@dataclass
class MetricScorer:
    """Scores a model by the headline numbers of the command `evaluate`: PQ, mask AP, mIoU and those of plugins."""

    spec: Spec
    scratch: Path
    kind: str = "PQ, mask AP and mIoU on labelled images"

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the metrics of the tasks for which the data has labels."""
        evaluate = replace(
            self.spec.evaluate, checkpoint=str(path), trt_engine="", results_dir=str(self.scratch / "evaluate")
        )
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            resolve(registry().command("evaluate").target)(replace(self.spec, evaluate=evaluate))
        metrics = json.loads((self.scratch / "evaluate" / "metrics.json").read_text())
        scores: dict[str, float] = {}
        for task in (*reversed(TASKS), *declared_tasks()):  # PQ, which covers the whole image, comes first
            scores |= headline_numbers(metrics, [task])
        return {name: value for name, value in scores.items() if value >= 0}


@dataclass
class AgreementScorer:
    """Scores a model by how closely its segmentations agree with those of another model."""

    source: Path
    images: tuple[Path, ...]
    open_file: OpenModel
    kind: str = "agreement with the float model"

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the agreement per task, averaged over the images; 1 is full agreement."""
        rows = [
            [_agreement(one, other) for one, other in zip(before, after, strict=True)]
            for before, after in zip(self._expected, self._results(path), strict=True)
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
        for image in self.images:
            pixels = read_image(image)
            yield [segmenter.predict([pixels], task)[0] for task in segmenter.manifest.tasks]


def _agreement(one: Segmentation, other: Segmentation) -> float:
    """Return the share of pixels with the same class if maps hold classes, else the F1 score of matched segments."""
    if one.holds_classes:
        return float((one.map == other.map).mean())
    if not one.segments and not other.segments:
        return 1.0
    kinds = [{segment.id: segment.category_id for segment in result.segments} for result in (one, other)]
    matched = sum(kinds[0].get(first) == kinds[1].get(second) for first, second in _overlapping(one.map, other.map))
    return 2 * matched / (len(one.segments) + len(other.segments))


def _overlapping(one: NDArray[np.int32], other: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of segment ids (not 0, which is void) whose regions overlap by more than `MATCH_IOU`."""
    ids, counts = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1, return_counts=True)
    areas: list[dict[Any, int]] = [
        dict(zip(*np.unique(part, return_counts=True), strict=True)) for part in (one, other)
    ]
    for (first, second), shared in zip(ids.T.tolist(), counts.tolist(), strict=True):
        if first and second and shared / (areas[0][first] + areas[1][second] - shared) > MATCH_IOU:
            yield first, second
