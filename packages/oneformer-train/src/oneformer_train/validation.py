"""Validation during training: the same decoding and the same evaluators as `oneformer evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from oneformer_data.sample import Sample
from oneformer_spec.manifest import Manifest
from oneformer_spec.plugins import registry, resolve
from oneformer_spec.segmenter import Run, Segmenter
from oneformer_spec.tasks import TASKS


class Validation:
    """Scores of all three tasks over the validation pictures, at their original size."""

    def __init__(self, manifest: Manifest) -> None:
        """Score against the manifest's labels with its input size and thresholds."""
        self.manifest = manifest
        self._reset()

    def _reset(self) -> None:
        evaluators = registry().evaluators
        self._evaluators = {task: resolve(evaluators[task.value].target)(self.manifest.labels) for task in TASKS}

    def update(self, samples: Sequence[Sample], run: Run) -> None:
        """Segment some pictures with each task's own token and count the result."""
        segmenter = Segmenter(run, self.manifest)
        for task, evaluator in self._evaluators.items():
            for sample, found in zip(
                samples, segmenter.predict([sample.image for sample in samples], task, min_score=0.0), strict=True
            ):
                evaluator.update(sample, found)

    def compute(self) -> dict[str, float]:
        """Return the headline numbers, each 0..1, and start anew."""
        semantic, instance, panoptic = (self._evaluators[task].compute() for task in TASKS)
        self._reset()
        return {"mIoU": semantic["mIoU"], "AP": instance["AP"]["AP"], "PQ": panoptic["PQ"]["all"]["pq"]}
