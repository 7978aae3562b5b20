"""Validation during training: the same decoding and the same evaluators as `oneformer evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from oneformer_data.evaluation.loop import NO_OPTIONS, Evaluation
from oneformer_data.sample import Sample
from oneformer_spec.errors import PluginError
from oneformer_spec.plugins.headlines import headline_numbers, headlines
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.segmentation.segmenter import Run, Segmenter
from oneformer_spec.tasks import TASKS
from oneformer_train.processes import group


class _Counted(NamedTuple):
    """What one process counted, and how an evaluator failed in it, if one did."""

    evaluation: Evaluation
    failure: str | None


class _Result(NamedTuple):
    numbers: dict[str, float]
    failure: str | None


class Validation:
    """Scores over the validation pictures, at their original size, of tasks that data and model both allow."""

    def __init__(
        self, manifest: Manifest, tasks: Sequence[str] = TASKS, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        """Score tasks against the manifest's labels with its input size and thresholds; `options` of the evaluators."""
        self.options = options
        self.manifest = manifest
        self.tasks = tuple(task for task in tasks if task in manifest.task_tokens)
        self.failure: str | None = None  # of the newest validation; see `raise_failure`
        self._evaluation = Evaluation(self.tasks, manifest.labels, options)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what a validation gives: the numbers that `compute` returns, and the loss."""
        return (*headlines(self.tasks), "val_loss")

    def update(self, samples: Sequence[Sample], run: Run) -> None:
        """Segment some pictures with each task's own tokens and count the result; do nothing once that has failed."""
        if self.failure is not None:
            return
        segmenter = Segmenter(run, self.manifest)
        try:
            self._evaluation.update(samples, lambda images, task: segmenter.predict(images, task, min_score=0.0))
        except PluginError as error:
            self.failure = str(error)

    def compute(self) -> dict[str, float]:
        """Return the headline numbers of all processes' pictures and start anew; every process must ask.

        Where an evaluator has failed they are all NaN, and `failure` says how.
        """
        parts = group.collect(_Counted(self._evaluation, self.failure))
        self._evaluation = Evaluation(self.tasks, self.manifest.labels, self.options)
        result = group.from_first(lambda: self._result(parts or []))
        self.failure = result.failure
        return result.numbers

    def raise_failure(self) -> None:
        """Raise what an evaluator did wrong in the newest validation; call it when a checkpoint has been written.

        Raises:
            PluginError: An evaluator failed in any process; the message names it.
        """
        failure, self.failure = self.failure, None
        if failure is not None:
            raise PluginError(failure)

    def _result(self, parts: Sequence[_Counted]) -> _Result:
        failure = next((part.failure for part in parts if part.failure is not None), None)
        if failure is None:
            try:
                whole = Evaluation(self.tasks, self.manifest.labels, self.options)
                for part in parts:
                    whole.merge(part.evaluation)
                return _Result(headline_numbers(whole.compute(), self.tasks), None)
            except PluginError as error:
                failure = str(error)
        return _Result(dict.fromkeys(headlines(self.tasks), math.nan), failure)
