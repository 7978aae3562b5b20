"""How far a run is, and what that means for a run of other batches that continues it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl


@dataclass
class Course:
    """Counts what is done; a batch is what all processes train on at once.

    Attributes:
        batches_per_epoch: Of this run.
        samples_per_batch: Over all processes.
        accumulate: Batches whose gradients make one optimiser step.
        batches_done: Of all epochs.
        samples_done: Position in the stream of samples where the next batch begins.
    """

    batches_per_epoch: int
    samples_per_batch: int
    accumulate: int = 1
    batches_done: int = 0
    samples_done: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """The optimiser steps of an epoch."""
        return self.batches_per_epoch // self.accumulate

    def batches_left(self) -> int:
        """Return the batches that are left of the current epoch."""
        return self.batches_per_epoch - self.batches_done % self.batches_per_epoch

    def count(self) -> None:
        """Count one batch."""
        self.batches_done += 1
        self.samples_done += self.samples_per_batch

    def state(self) -> dict[str, int]:
        """Return what a checkpoint stores."""
        return {
            "batches_done": self.batches_done,
            "samples_done": self.samples_done,
            "batches_per_epoch": self.batches_per_epoch,
            "accumulate": self.accumulate,
        }

    def resume(self, state: Mapping[str, Any]) -> int | None:
        """Take up the course of a checkpoint; return the optimiser steps done where they are counted anew.

        Samples count as they were seen. Where an epoch has another number of batches now, the epoch in progress is as
        far as it was, rounded down to whole optimiser steps.
        """
        self.batches_done, self.samples_done = int(state["batches_done"]), int(state["samples_done"])
        before = int(state["batches_per_epoch"]), int(state["accumulate"])
        if before == (self.batches_per_epoch, self.accumulate):
            return None
        steps = self.batches_done * self.steps_per_epoch // before[0]
        self.batches_done = steps * self.accumulate
        return steps


def recount(loops: dict[str, Any], course: Course, steps: int) -> None:
    """Rewrite Lightning's counters in place, as though the run had always had the batches of `course`."""
    loop = loops["fit_loop"]
    batches = loop["epoch_loop.batch_progress"]
    whole = batches["current"]["ready"] and batches["is_last_batch"]
    in_epoch = course.batches_done % course.batches_per_epoch or (course.batches_per_epoch if whole else 0)
    _shift(batches["total"], course.batches_done)
    _shift(batches["current"], in_epoch)
    taken = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    for counts in (taken, loop["epoch_loop.scheduler_progress"]):
        _shift(counts["total"], steps)
        _shift(counts["current"], in_epoch // course.accumulate)


def _shift(counts: dict[str, int], ready: int) -> None:
    """Move counters that belong together so that "ready" has a value; their distances say where a run stopped."""
    by = ready - counts["ready"]
    for name in counts:
        counts[name] += by


def validation_due(trainer: pl.Trainer, batch_index: int) -> bool:
    """Tell whether Lightning validates after this batch of the epoch."""
    every, after = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not trainer.enable_validation or not after:
        return False
    if every is not None and (trainer.current_epoch + 1) % every:
        return False
    done = batch_index + 1 if every is not None else trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return done % after == 0


def between_batches(loops: dict[str, Any], *, due: bool, validated: bool) -> None:
    """Bring the counters into the state after a batch.

    Args:
        loops: The part of a checkpoint, changed in place.
        due: A validation belongs to this batch.
        validated: It is done; otherwise the run begins with it, from its first picture.
    """
    fit = loops["fit_loop"]
    batches = fit["epoch_loop.batch_progress"]
    for count in (batches["total"], batches["current"]):
        count["completed"] = count["processed"]
    if due and not validated:
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        fit["epoch_loop.val_loop.batch_progress"] |= {"total": begun, "current": dict(begun), "is_last_batch": False}
    if not due:  # otherwise Lightning counts the step when it has dealt with the validation
        fit["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def between_epochs(loops: dict[str, Any]) -> None:
    """Bring the counters into the state after an epoch; the loop is to be told that it does not restart."""
    epochs = loops["fit_loop"]["epoch_progress"]
    for count in (epochs["total"], epochs["current"]):
        count["completed"] = count["processed"]
