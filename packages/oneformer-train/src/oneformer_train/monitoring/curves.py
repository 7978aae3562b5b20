"""The metrics of a run by optimiser step, sent to every logger under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor
from torch.optim import Optimizer

from oneformer_train.batches.batch import Batch
from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.checkpoints.stop_signals import StoppedError
from oneformer_train.module import TrainingModule
from oneformer_train.monitoring.loggers import Resumable, ShowsPictures
from oneformer_train.monitoring.sample_pictures import SamplePictures
from oneformer_train.monitoring.stopwatch import Stopwatch, peak_memory

STEPS_PER_ROW = 10
VALIDATION = "val/"


class Curves(pl.Callback):
    """Means of the losses over ten steps and at an epoch's end, rates, speed and memory; scores and sample pictures."""

    def __init__(self, loader: TimedLoader, samples: SamplePictures | None, settings: Mapping[str, Any]) -> None:
        """Measure the steps on the batches of `loader`; `settings` is what loggers record about the run."""
        self.samples = samples
        self.settings = settings
        self._stopwatch = Stopwatch(loader)
        self._sums: dict[str, Tensor] = {}
        self._batches = self._steps = self._last_row = 0
        self._rates: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the curves where the run continues."""
        self._steps = self._last_row = trainer.global_step
        for logger in _loggers(trainer):
            if isinstance(logger, Resumable):
                logger.resume(self._steps)
            logger.log_hyperparams(dict(self.settings))

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
        pictures = self.samples.draw(pl_module.run) if self.samples is not None else {}
        figures = validation_figures(trainer)
        scores = {f"{VALIDATION}{name.removeprefix('val_')}": value for name, value in figures.items()}
        _log(trainer, {"epoch": trainer.current_epoch, **scores})
        for logger in _loggers(trainer):
            if isinstance(logger, ShowsPictures):
                for name, picture in pictures.items():
                    logger.log_image(f"samples/{name}", [picture], step=trainer.global_step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the last row of a run that a signal stopped: its state is saved, so it belongs to the curves."""
        if isinstance(exception, StoppedError) and trainer.world_size == 1 and self._steps > self._last_row:
            self._write_row(trainer, pl_module.device)

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
        _log(trainer, row)


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


def _log(trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
    for logger in _loggers(trainer):
        logger.log_metrics(dict(metrics), step=trainer.global_step)
        logger.save()


def _loggers(trainer: pl.Trainer) -> Sequence[Logger]:
    """Return the run's loggers on the first process, none elsewhere: the metrics are those of all processes."""
    return trainer.loggers if trainer.is_global_zero else ()
