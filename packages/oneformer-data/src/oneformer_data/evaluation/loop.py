"""The loop that scores any model: one forward pass per image and task, each with its own task token."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from oneformer_data.datasets import allowed_tasks
from oneformer_data.sample import Sample
from oneformer_spec.errors import OneFormerError, PluginError
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.entries import part_name, section_keywords
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.processes.world import ALONE, World
from oneformer_spec.results import Segmentation

DATA_SETS = "data_sets"
"""Where the scores of each data set stand when there are several."""

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

Predict = Callable[[Sequence[NDArray[np.uint8]], str], Sequence[Segmentation]]
"""Pictures (H, W, 3) and a task in; one segmentation per picture at its own size out, instances with all scores."""


class Evaluator(Protocol):
    """A score that counts images, joins shards, and gives numbers; it can be pickled, to travel between processes."""

    def update(self, sample: Sample, segmentation: Segmentation) -> None:
        """Add one image: its annotations, and the result of the evaluator's task at the same size."""

    def merge(self, other: Self) -> None:
        """Add the images that another evaluator of the same kind has counted."""

    def compute(self) -> Mapping[str, Any]:
        """Return the numbers of all images so far, numpy's included; they may stand in lists and nested mappings."""


class Evaluation:
    """The evaluators of some tasks side by side; it can be sent between processes and merged.

    `options` holds the evaluators' sections of the spec by name, `evaluate.evaluators`.
    """

    def __init__(self, tasks: Sequence[str], labels: Labels, options: Mapping[str, Any] = NO_OPTIONS) -> None:
        self.tasks = tuple(tasks)
        self.options = dict(options)
        self.evaluators: dict[str, dict[str, Evaluator]] = {task: {} for task in tasks}
        for name, declared in registry().evaluators.items():
            if declared.task in tasks:
                with _naming(name):
                    self.evaluators[declared.task][name] = resolve(declared.target)(
                        labels, **section_keywords("evaluator", name, options)
                    )

    def update(self, samples: Sequence[Sample], predict: Predict) -> None:
        """Predict and count some images; they are read once, whatever the number of tasks."""
        images = [sample.image for sample in samples]
        for task, evaluators in self.evaluators.items():
            if not evaluators:
                continue  # a plugin's task that nobody scores
            for sample, segmentation in zip(samples, predict(images, task), strict=True):
                for name, evaluator in evaluators.items():
                    with _naming(name):
                        evaluator.update(sample, segmentation)

    def merge(self, other: Evaluation) -> None:
        """Add the images of another shard, which may lack tasks."""
        for task, evaluators in other.evaluators.items():
            for name, evaluator in evaluators.items():
                with _naming(name):
                    self.evaluators[task][name].merge(evaluator)

    def compute(self) -> dict[str, Any]:
        """Return the numbers of all tasks in one dictionary, as plain Python numbers; NaN is None.

        Raises:
            PluginError: An evaluator fails, or two give numbers of one name.
        """
        found: dict[str, Any] = {}
        for evaluators in self.evaluators.values():
            for name, evaluator in evaluators.items():
                with _naming(name):
                    numbers: dict[str, Any] = _plain(dict(evaluator.compute()))
                if twice := sorted(found.keys() & numbers.keys()):
                    raise PluginError(f"the evaluator {name!r} computes {twice[0]!r}, and so does another one")
                found |= numbers
        return found


@contextmanager
def _naming(evaluator: str) -> Iterator[None]:
    """Turn what an evaluator raises into an error that names it and the package that it comes from."""
    try:
        yield
    except (OneFormerError, MemoryError):
        raise
    except Exception as error:  # whatever an evaluator raises
        raise PluginError(f"the {part_name('evaluator', evaluator)} fails: {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    """Return numbers, texts, lists and mappings without numpy's types; NaN, which JSON has not, is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def evaluate_parts(
    parts: Mapping[str, Sequence[Sample]],
    predict: Predict,
    tasks: Sequence[str],
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
    counted = count_parts(
        parts, predict, tasks, labels, batch_size=batch_size, num_workers=num_workers, progress=progress
    )
    return scores([counted], tasks, labels)


def count_parts(
    parts: Mapping[str, Sequence[Sample]],
    predict: Predict,
    tasks: Sequence[str],
    labels: Labels,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    world: World = ALONE,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> dict[str, Evaluation]:
    """Predict and count this process's share of each data set; see `evaluate_parts` and `Evaluation`."""
    shares = {name: world.share(len(samples), window(batch_size)) for name, samples in parts.items()}
    total, done = sum(map(len, shares.values())), 0
    counted = {}
    for name, samples in parts.items():
        evaluation = Evaluation([task for task in tasks if task in allowed_tasks(samples)], labels, options)
        for batch in batches(samples, batch_size, num_workers, shares[name]):
            # As in joined data sets: the names of two of them may be the same.
            evaluation.update([replace(sample, name=f"{name}/{sample.name}") for sample in batch], predict)
            done += len(batch)
            if progress is not None:
                progress(done, total)
        counted[name] = evaluation
    return counted


def scores(shares: Sequence[Mapping[str, Evaluation]], tasks: Sequence[str], labels: Labels) -> dict[str, Any]:
    """Return the numbers of all data sets, and of each where there are several, from what the processes counted.

    The shares come in the order of the images, so that the numbers are those of one process that counted them all.
    """
    options = next(iter(shares[0].values())).options
    pooled, alone = Evaluation(tasks, labels, options), {}
    for name in shares[0]:
        alone[name] = Evaluation(shares[0][name].tasks, labels, options)
        for share in shares:
            alone[name].merge(share[name])
        pooled.merge(alone[name])
    found = pooled.compute()
    if len(alone) > 1:
        found[DATA_SETS] = {name: evaluation.compute() for name, evaluation in alone.items()}
    return found


def window(batch_size: int) -> int:
    """Return how many samples in a row are grouped by size; no batch reaches from one such window into the next.

    Processes share whole windows, so that a batch holds the same images whatever their number is.
    """
    return batch_size if batch_size == 1 else 4 * batch_size


def batches(
    samples: Sequence[Sample], batch_size: int, num_workers: int = 0, indices: range | None = None
) -> Iterator[list[Sample]]:
    """Yield the samples in groups of one image size, window by window.

    `indices` are those to take, all by default; they begin with a window.
    """
    indices = range(len(samples)) if indices is None else indices
    waiting: dict[tuple[int, int], list[Sample]] = {}
    for number, sample in enumerate(read_ahead(samples, num_workers, indices), 1):
        group = waiting.setdefault(sample.size, [])
        group.append(sample)
        if len(group) == batch_size:
            yield waiting.pop(sample.size)
        if number % window(batch_size) == 0:
            yield from waiting.values()
            waiting.clear()
    yield from waiting.values()


def read_ahead(samples: Sequence[Sample], num_workers: int, indices: range) -> Iterator[Sample]:
    """Yield the samples of some indices in order; with workers, that many threads keep twice as many samples coming.

    Threads suffice: decoding a picture leaves the interpreter free.
    """
    if num_workers == 0:
        yield from (samples[index] for index in indices)
        return
    readers = ThreadPoolExecutor(num_workers, thread_name_prefix="reader")
    try:
        coming: deque[Future[Sample]] = deque()
        for index in indices:
            coming.append(readers.submit(samples.__getitem__, index))
            if len(coming) > 2 * num_workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)
