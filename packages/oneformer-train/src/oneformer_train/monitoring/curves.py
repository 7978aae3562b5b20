"""The figures of a run by optimiser step, handed to every journal: the same names in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from oneformer_train.batches.batch import Batch
from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.checkpoints.stop_signals import StoppedError
from oneformer_train.module import TrainingModule
from oneformer_train.monitoring.loggers import Journal
from oneformer_train.monitoring.sample_pictures import Gallery
from oneformer_train.monitoring.stopwatch import Stopwatch, peak_memory

STEPS_PER_ROW = 10
VALIDATION = "val/"


class Curves(pl.Callback):
    """Means of the losses over ten steps and at an epoch's end, rates, speed and memory; scores and sample pictures."""

    def __init__(
        self, open_journals: Callable[[int], Sequence[Journal]], loader: TimedLoader, gallery: Gallery | None
    ) -> None:
        """Open the journals with the number of steps that are done when training starts."""
        self.open_journals = open_journals
        self.gallery = gallery
        self.journals: Sequence[Journal] = ()
        self._stopwatch = Stopwatch(loader)
        self._sums: dict[str, Tensor] = {}
        self._batches = self._steps = self._last_row = 0
        self._rates: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the curves where the run continues."""
        self._steps = self._last_row = trainer.global_step
        if trainer.is_global_zero:
            self.journals = self.open_journals(self._steps)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clock of a batch."""
        self._stopwatch.begin()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the rates of this step; the schedule has moved on when it is over."""
        self._rates = learning_rates(optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add up the losses where they are; every ten steps they are read and a row is written."""
        for name, value in losses(outputs, trainer).items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._batches += 1
        self._stopwatch.end(len(batch.names) * trainer.world_size)
        stepped, self._steps = trainer.global_step > self._steps, trainer.global_step
        if stepped and (self._steps % STEPS_PER_ROW == 0 or trainer.is_last_batch):
            self._write_row(trainer, pl_module.device)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the scores, and show what is found in a few pictures; all ranks run the network."""
        assert isinstance(pl_module, TrainingModule)
        pictures = self.gallery.draw(pl_module.run) if self.gallery is not None else {}
        figures = validation_figures(trainer)
        scores = {f"{VALIDATION}{name.removeprefix('val_')}": value for name, value in figures.items()}
        for journal in self.journals:
            journal.scalars(trainer.global_step, {"epoch": trainer.current_epoch, **scores})
            journal.pictures(trainer.global_step, {f"samples/{name}": pictures[name] for name in pictures})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the journals."""
        self._close(failed=False)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the journals of a run that ends early; what a signal stopped is saved, and belongs into the curves."""
        if isinstance(exception, StoppedError) and trainer.world_size == 1 and self._steps > self._last_row:
            self._write_row(trainer, pl_module.device)
        self._close(failed=True)

    def _write_row(self, trainer: pl.Trainer, device: torch.device) -> None:
        means = {name: trainer.strategy.reduce(total / self._batches) for name, total in self._sums.items()}
        row = {
            "epoch": float(trainer.current_epoch),
            **{f"train/{name}": float(value) for name, value in means.items()},
            **{f"lr/{name}": rate for name, rate in self._rates.items()},
            "speed/images_per_second": self._stopwatch.images_per_second,
            "speed/loader_wait_share": self._stopwatch.wait_share,
            "memory/peak_gb": peak_memory(device),
        }
        self._sums, self._batches, self._last_row = {}, 0, self._steps
        if self._stopwatch.batches == 0:  # nothing but a process's first batch
            row = {name: value for name, value in row.items() if not name.startswith("speed/")}
        self._stopwatch.reset()
        for journal in self.journals:
            journal.scalars(trainer.global_step, row)

    def _close(self, *, failed: bool) -> None:
        journals, self.journals = self.journals, ()
        for journal in journals:
            journal.close(failed=failed)


def losses(outputs: Mapping[str, Tensor], trainer: pl.Trainer) -> dict[str, Tensor]:
    """Return the losses of a batch by name, without the division of "loss" by the batches of an optimiser step."""
    found = {name: value.detach() for name, value in outputs.items()}
    return {**found, "loss": found["loss"] * trainer.accumulate_grad_batches}


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the learning rates by group, those of groups that differ in weight decay alone once."""
    return {group["name"].removesuffix("_no_decay"): float(group["lr"]) for group in optimizer.param_groups}


def validation_figures(trainer: pl.Trainer) -> dict[str, float]:
    """Return what the newest validation logged."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith("train")}
