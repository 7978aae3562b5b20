"""What people watch: a bar on a terminal, a line now and then elsewhere, and `status.json` for programs."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from oneformer_spec.run_folder import RunFolder
from oneformer_train.module import TrainingModule
from oneformer_train.validation import SCORES

_SECONDS_BETWEEN_LINES = 20.0


class Progress(pl.Callback):
    """Losses, learning rate, images per second and the time left of the whole run."""

    def __init__(self, run: RunFolder, *, total_batches: int, batch_size: int) -> None:
        """Report on a run of `total_batches` batches of `batch_size` pictures."""
        self.run = run
        self.total_batches = total_batches
        self.batch_size = batch_size
        self._losses: dict[str, float] = {}
        self._bar: tqdm[Any] | None = None
        self._began = self._last_line = 0.0
        self._first = self._done = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock where this process begins, not where the run once began."""
        self._began = self._last_line = time.monotonic()
        self._first = self._done = _batches_done(pl_module)
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(total=self.total_batches, initial=self._first, unit="batch", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the batch that was trained on."""
        self._done = _batches_done(pl_module)
        now = time.monotonic()
        due = now - self._last_line >= _SECONDS_BETWEEN_LINES or trainer.is_last_batch
        if not trainer.is_global_zero or (self._bar is None and not due):
            return
        self._losses = {name: value.detach().item() for name, value in outputs.items()}
        if self._bar is not None:
            self._bar.update(self._done - self._bar.n)
            self._bar.set_description(f"epoch {trainer.current_epoch}")
            self._bar.set_postfix_str(self._summary(trainer))
        elif due:
            self._last_line = now
            print(
                f"epoch {trainer.current_epoch}  batch {self._done}/{self.total_batches}  {self._summary(trainer)}  "
                f"{self._speed():.1f} images/s  {self._time_left()} left",
                file=sys.stderr,
                flush=True,
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch with its losses and the newest scores."""
        if not trainer.is_global_zero:
            return
        kpi = self._losses | _scores(trainer)
        self.run.status("RUNNING", "epoch finished", epoch=trainer.current_epoch, eta=self._time_left(), kpi=kpi)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the scores of a validation."""
        scores = "  ".join(f"{name} {value:.3f}" for name, value in _scores(trainer).items())
        if trainer.is_global_zero:
            tqdm.write(f"epoch {trainer.current_epoch}  validation: {scores}", file=sys.stderr)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar where it ended."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the bar before the error is printed."""
        if self._bar is not None:
            self._bar.close()

    def _summary(self, trainer: pl.Trainer) -> str:
        losses = "  ".join(f"{name} {value:.3f}" for name, value in self._losses.items())
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        return f"{losses}  lr {rate:.2e}"

    def _speed(self) -> float:
        return (self._done - self._first) * self.batch_size / max(time.monotonic() - self._began, 1e-9)

    def _time_left(self) -> str:
        batches_per_second = self._speed() / self.batch_size
        left = (self.total_batches - self._done) / batches_per_second if batches_per_second else 0.0
        return str(timedelta(seconds=round(left)))


def _scores(trainer: pl.Trainer) -> dict[str, float]:
    """Return the newest scores of the tasks that are validated."""
    return {name: float(trainer.callback_metrics[name]) for name in SCORES if name in trainer.callback_metrics}


def _batches_done(module: pl.LightningModule) -> int:
    assert isinstance(module, TrainingModule)
    return module.course.batches_done
