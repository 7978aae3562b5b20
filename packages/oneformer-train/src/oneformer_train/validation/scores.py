"""Validation during training: the same decoding and the same evaluators as `oneformer evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oneformer_data.evaluation.loop import Evaluation
from oneformer_data.sample import Sample
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Run, Segmenter
from oneformer_spec.tasks import TASKS, Task
from oneformer_train.processes import group

_NAMES = {Task.SEMANTIC: "mIoU", Task.INSTANCE: "AP", Task.PANOPTIC: "PQ"}


class Validation:
    """Scores of the tasks that the data allows over the validation pictures, at their original size."""

    def __init__(self, manifest: Manifest, tasks: Sequence[Task] = TASKS) -> None:
        """Score tasks against the manifest's labels with its input size and thresholds."""
        self.manifest, self.tasks = manifest, tasks
        self._evaluation = Evaluation(tasks, manifest.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what a validation gives: the numbers that `compute` returns, and the loss."""
        return (*(_NAMES[task] for task in self.tasks), "val_loss")

    def update(self, samples: Sequence[Sample], run: Run) -> None:
        """Segment some pictures with each task's own token and count the result."""
        segmenter = Segmenter(run, self.manifest)
        self._evaluation.update(samples, lambda images, task: segmenter.predict(images, task, min_score=0.0))

    def compute(self) -> dict[str, float]:
        """Return the headline numbers of all processes' pictures, each 0..1, and start anew; every process must ask."""
        parts = group.collect(self._evaluation)
        self._evaluation = Evaluation(self.tasks, self.manifest.labels)
        return group.from_first(lambda: self._headlines(parts or []))

    def _headlines(self, parts: Sequence[Evaluation]) -> dict[str, float]:
        whole = Evaluation(self.tasks, self.manifest.labels)
        for part in parts:
            whole.merge(part)
        scores = whole.compute()
        return {_NAMES[task]: _headline(scores, task) for task in self.tasks}


def _headline(scores: Mapping[str, Any], task: Task) -> float:
    match task:
        case Task.SEMANTIC:
            return float(scores["mIoU"])
        case Task.INSTANCE:
            return float(scores["AP"]["AP"])
        case Task.PANOPTIC:
            return float(scores["PQ"]["all"]["pq"])
