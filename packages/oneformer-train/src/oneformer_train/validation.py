"""Validation during training: the same decoding and the same evaluators as `oneformer evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from oneformer_data.evaluation import Evaluation
from oneformer_data.sample import Sample
from oneformer_spec.manifest import Manifest
from oneformer_spec.segmenter import Run, Segmenter
from oneformer_spec.tasks import TASKS

SCORES = ("mIoU", "AP", "PQ")
"""The headline numbers by name."""


class Validation:
    """Scores of all three tasks over the validation pictures, at their original size."""

    def __init__(self, manifest: Manifest) -> None:
        """Score against the manifest's labels with its input size and thresholds."""
        self.manifest = manifest
        self._evaluation = Evaluation(TASKS, manifest.labels)

    def update(self, samples: Sequence[Sample], run: Run) -> None:
        """Segment some pictures with each task's own token and count the result."""
        segmenter = Segmenter(run, self.manifest)
        self._evaluation.update(samples, lambda images, task: segmenter.predict(images, task, min_score=0.0))

    def compute(self) -> dict[str, float]:
        """Return the headline numbers, each 0..1, and start anew."""
        scores = self._evaluation.compute()
        self._evaluation = Evaluation(TASKS, self.manifest.labels)
        return {"mIoU": scores["mIoU"], "AP": scores["AP"]["AP"], "PQ": scores["PQ"]["all"]["pq"]}
