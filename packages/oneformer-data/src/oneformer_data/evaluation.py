"""The loop that scores any model: one forward pass per image and task, each with its own task token."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, Self

from numpy import uint8
from numpy.typing import NDArray

from oneformer_data.sample import Sample
from oneformer_data.samples import allowed_tasks
from oneformer_spec.labels import Labels
from oneformer_spec.plugins import registry, resolve
from oneformer_spec.results import Segmentation
from oneformer_spec.tasks import Task

DATA_SETS = "data_sets"
"""Where the scores of each data set stand when there are several."""

Predict = Callable[[Sequence[NDArray[uint8]], Task], Sequence[Segmentation]]
"""Pictures (H, W, 3) and a task in; one segmentation per picture at its own size out, instances with all scores."""


class Evaluator(Protocol):
    """A score that counts images, joins shards, and gives numbers."""

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add one image."""

    def merge(self, other: Self) -> None:
        """Add the images of another shard."""

    def compute(self) -> dict[str, Any]:
        """Return the numbers of all images so far."""


class Evaluation:
    """The evaluators of some tasks side by side; it can be sent between processes and merged."""

    def __init__(self, tasks: Sequence[Task], labels: Labels) -> None:
        declared = registry().evaluators
        self.evaluators: dict[Task, Evaluator] = {task: resolve(declared[task].target)(labels) for task in tasks}

    def update(self, samples: Sequence[Sample], predict: Predict) -> None:
        """Predict and count some images; they are read once, whatever the number of tasks."""
        images = [sample.image for sample in samples]
        for task, evaluator in self.evaluators.items():
            for sample, segmentation in zip(samples, predict(images, task), strict=True):
                evaluator.update(sample, segmentation)

    def merge(self, other: Evaluation) -> None:
        """Add the images of another shard, which may lack tasks."""
        for task, evaluator in other.evaluators.items():
            self.evaluators[task].merge(evaluator)

    def compute(self) -> dict[str, Any]:
        """Return the numbers of all tasks in one dictionary."""
        return {name: value for evaluator in self.evaluators.values() for name, value in evaluator.compute().items()}


def evaluate_parts(
    parts: Mapping[str, Sequence[Sample]],
    predict: Predict,
    tasks: Sequence[Task],
    labels: Labels,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a model on labelled images: the numbers of all of them, and of each data set where there are several.

    A data set is scored in the tasks that it has ground truth for. `num_workers` threads read ahead of the model;
    `progress` is told the images done and the images in all.
    """
    pooled, alone = Evaluation(tasks, labels), {}
    total, done = sum(map(len, parts.values())), 0
    for name, samples in parts.items():
        evaluation = Evaluation([task for task in tasks if task in allowed_tasks(samples)], labels)
        for batch in batches(samples, batch_size, num_workers):
            # As in joined data sets: the names of two of them may be the same.
            evaluation.update([replace(sample, name=f"{name}/{sample.name}") for sample in batch], predict)
            done += len(batch)
            if progress is not None:
                progress(done, total)
        pooled.merge(evaluation)
        alone[name] = evaluation
    scores = pooled.compute()
    if len(parts) > 1:
        scores[DATA_SETS] = {name: evaluation.compute() for name, evaluation in alone.items()}
    return scores


def batches(samples: Sequence[Sample], batch_size: int, num_workers: int = 0) -> Iterator[list[Sample]]:
    """Yield the samples in groups of one image size; few are held back, so the order hardly changes."""
    waiting: dict[tuple[int, int], list[Sample]] = {}
    for sample in read_ahead(samples, num_workers):
        group = waiting.setdefault(sample.size, [])
        group.append(sample)
        if len(group) == batch_size:
            yield waiting.pop(sample.size)
        elif sum(map(len, waiting.values())) >= 4 * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()


def read_ahead(samples: Sequence[Sample], num_workers: int) -> Iterator[Sample]:
    """Yield the samples in order; with workers, that many threads keep twice as many samples coming.

    Threads suffice: decoding a picture leaves the interpreter free.
    """
    if num_workers == 0:
        yield from (samples[index] for index in range(len(samples)))
        return
    readers = ThreadPoolExecutor(num_workers, thread_name_prefix="reader")
    try:
        coming: deque[Future[Sample]] = deque()
        for index in range(len(samples)):
            coming.append(readers.submit(samples.__getitem__, index))
            if len(coming) > 2 * num_workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)
