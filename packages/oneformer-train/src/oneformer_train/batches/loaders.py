"""The loaders of a run: training batches by position in the stream, validation pictures as they are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from oneformer_data.sample import Sample
from oneformer_data.training.pipeline import Example, TrainingPipeline, example_rng, pass_order
from oneformer_spec.commands.exit import note
from oneformer_spec.processes.world import ALONE, World
from oneformer_spec.schema import DatasetSection, Spec, TrainSection
from oneformer_train.batches.batch import collate
from oneformer_train.batches.loader_errors import Batches, Loader, unchanged
from oneformer_train.checkpoints.position import Course

_SECONDS_BETWEEN_LOOKS = 1.0


class ExampleStream(Dataset[Example]):
    """An endless stream of shuffled passes over the data, addressed by position.

    A position alone decides which sample is drawn and every random choice about it, so a run depends neither on the
    number of workers nor on whether it was interrupted.
    """

    def __init__(self, pipeline: TrainingPipeline, *, seed: int) -> None:
        """Shuffle and augment by `seed`."""
        self.pipeline = pipeline
        self.seed = seed
        self._pass: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, position: int) -> Example:
        """Return the example at a position, counted from 0 over the whole run."""
        number, offset = divmod(position, len(self.pipeline))
        return self.pipeline.example(int(self._order(number)[offset]), example_rng(self.seed, position))

    def _order(self, number: int) -> NDArray[np.int64]:
        if self._pass is None or self._pass[0] != number:
            self._pass = number, pass_order(self.seed, number, self.pipeline)
        return self._pass[1]


class PositionBatches(Sampler[list[int]]):
    """The stream positions of one process's part of each batch that is left in the current epoch; all are full."""

    def __init__(self, course: Course, world: World = ALONE) -> None:
        """Look at `course`, how far the whole run has come, whenever an epoch begins."""
        self.course = course
        self.world = world

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return self.course.batches_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the positions of every batch that is left in the epoch."""
        step = self.course.samples_per_batch
        own = step // self.world.size
        first = self.course.samples_done + self.world.rank * own
        for start in range(first, first + self.course.batches_left() * step, step):
            yield list(range(start, start + own))


class PictureBatches(Sampler[list[int]]):
    """The validation pictures of one process, batch by batch, in order.

    Batches are those of a single process, so each picture is in the same company whatever the number of processes, and
    comes once. Every process has the same number of batches; the last may be empty.
    """

    def __init__(self, num_pictures: int, batch_size: int, world: World = ALONE) -> None:
        """Share the batches of all pictures out by turns."""
        batches = [[*range(num_pictures)][start : start + batch_size] for start in range(0, num_pictures, batch_size)]
        own = batches[world.rank :: world.size]
        self.batches = [*own, *[[]] * (-(-len(batches) // world.size) - len(own))]

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch."""
        return iter(self.batches)


class TimedLoader(Loader):
    """A loader that adds up the seconds for which the loop that reads it had to wait."""

    seconds_waited: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own class of iterators
        """Yield the batches of an epoch."""
        batches = super().__iter__()
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.seconds_waited += time.perf_counter() - began
            yield batch


def training_loader(pipeline: TrainingPipeline, spec: Spec, course: Course, world: World = ALONE) -> TimedLoader:
    """Return the loader of one process's training batches, `Batch`."""
    dataset, train = spec.dataset, spec.train
    return TimedLoader(
        Batches(ExampleStream(pipeline, seed=train.seed), partial(collate, cut_texts=spec.model.text_encoder.causal)),
        batch_sampler=PositionBatches(course, world),
        collate_fn=unchanged,
        num_workers=dataset.train.num_workers,
        persistent_workers=dataset.train.num_workers > 0,
        pin_memory=dataset.pin_memory and torch.cuda.is_available(),
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # starting to iterate would draw from torch's global one
    )


def validation_loader(samples: Sequence[Sample], dataset: DatasetSection, world: World = ALONE) -> Loader:
    """Return the loader of one process's whole validation pictures, lists of `Sample`, in order."""
    return Loader(
        Batches(samples, list),
        batch_sampler=PictureBatches(len(samples), dataset.val.batch_size, world),
        collate_fn=unchanged,
        num_workers=dataset.val.num_workers,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # starting to iterate would draw from torch's global one
    )


def course_of(spec: Spec, num_samples: int, world: World = ALONE) -> Course:
    """Return the course of a fresh run; `dataset.train.batch_size` counts the samples of one process."""
    samples_per_batch = spec.dataset.train.batch_size * world.size
    return Course(
        batches_per_epoch=batches_per_epoch(num_samples, samples_per_batch, spec.train),
        samples_per_batch=samples_per_batch,
        accumulate=spec.train.accumulate_grad_batches,
    )


def batches_per_epoch(num_samples: int, batch_size: int, train: TrainSection) -> int:
    """Return the batches of an epoch: `iters_per_epoch` optimiser steps, or as many as one pass over the data fills.

    The remainder of a pass that fills no batch opens the next epoch.
    """
    steps = train.iters_per_epoch or max(1, num_samples // (batch_size * train.accumulate_grad_batches))
    return steps * train.accumulate_grad_batches


def note_busy_loaders(spec: Spec) -> None:
    """Print a note where the run has more loader processes than the machine has cores."""
    wanted, cores = spec.dataset.train.num_workers * spec.train.num_gpus, os.cpu_count() or 1
    if wanted > cores:
        note(f"dataset.train.num_workers: {wanted} loader processes share {cores} cores; fewer may be faster")


def prepare_worker(worker_id: int) -> None:
    """Keep a loader process on one thread, leave signals to the run, and end when the run is gone.

    Ctrl-C, `timeout`, systemd and Slurm signal all processes of a run at once; a loader that obeyed would take away the
    run's chance to save. torch's own watch for a run that was killed looks at the process that forked the loader, which
    with the start methods of newer Pythons is not the run.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = multiprocessing.parent_process()
    if run is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        sys.excepthook = partial(_report, run)
        Thread(target=_end_with, args=(run,), daemon=True).start()


def _report(run: BaseProcess, *error: Any) -> None:
    """Report an error, unless the run is gone: then it is nothing but a connection that broke."""
    run.join(_SECONDS_BETWEEN_LOOKS)
    if run.is_alive():
        sys.__excepthook__(*error)


def _end_with(run: BaseProcess) -> None:
    """End when that process sends SIGTERM, or is gone; a handler could not tell its SIGTERM from those of others."""
    while run.is_alive():
        received = signal.sigtimedwait({signal.SIGTERM}, _SECONDS_BETWEEN_LOOKS)
        if received is not None and received.si_pid == run.pid:
            break
    os._exit(0)
