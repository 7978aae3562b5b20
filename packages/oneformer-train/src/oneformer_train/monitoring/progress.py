"""What people watch: a bar on a terminal, a line now and then elsewhere, and `status.json` for programs."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from oneformer_spec.commands.run_folder import RunFolder
from oneformer_train.batches.batch import Batch
from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.module import TrainingModule
from oneformer_train.monitoring.curves import losses, validation_figures
from oneformer_train.monitoring.stopwatch import Stopwatch, peak_memory

_SECONDS_BETWEEN_LINES = 20.0
_SECONDS_BETWEEN_STATUS = 300.0
_LIVE_LINE = "{percentage:3.0f}%{postfix}"
_MUCH_WAITING = 0.1  # of the time
_BATCHES_TO_JUDGE = 20


class Progress(pl.Callback):
    """Losses, learning rate, images per second, waiting, memory, and the time left of the whole run."""

    def __init__(self, run: RunFolder, loader: TimedLoader, *, total_batches: int) -> None:
        """Report on a run of `total_batches` batches."""
        self.run = run
        self.loader = loader
        self.total_batches = total_batches
        self._stopwatch, self._whole = Stopwatch(loader), Stopwatch(loader)
        self._losses: dict[str, float] = {}
        self._bar: tqdm[Any] | None = None
        self._began = self._last_status = 0.0
        self._last_line = -_SECONDS_BETWEEN_LINES  # the first batch is a sign of life
        self._first = self._done = 0
        self._waiting_is_told = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock where this process begins, not where the run once began."""
        self._began = self._last_status = time.monotonic()
        self._first = self._done = _batches_done(pl_module)
        if trainer.is_global_zero and _has_width():
            self._bar = tqdm(total=self.total_batches, initial=self._first, bar_format=_LIVE_LINE, dynamic_ncols=True)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clocks of a batch."""
        for watch in (self._stopwatch, self._whole):
            watch.begin()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Show the batch that was trained on."""
        self._done = _batches_done(pl_module)
        for watch in (self._stopwatch, self._whole):
            watch.end(len(batch.names) * trainer.world_size)
        now = time.monotonic()
        due = now - self._last_line >= _SECONDS_BETWEEN_LINES or trainer.is_last_batch
        if not trainer.is_global_zero or (self._bar is None and not due):
            return
        self._losses = {name: value.item() for name, value in losses(outputs, trainer).items()}
        if self._bar is not None:
            self._bar.set_postfix_str(self._summary(trainer, pl_module), refresh=False)
            self._bar.update(self._done - self._bar.n)
        else:
            self._print(self._summary(trainer, pl_module))
        if due:
            self._last_line = now
            self._tell_waiting()
            self._stopwatch.reset()
        if now - self._last_status >= _SECONDS_BETWEEN_STATUS:
            self._last_status = now
            self._status(trainer, f"{self._done} of {self.total_batches} batches are done", self._losses)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch with its losses and the newest scores."""
        if trainer.is_global_zero:
            self._status(trainer, "epoch finished", self._losses | validation_figures(trainer))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the scores of a validation."""
        scores = "  ".join(f"{name} {value:.3f}" for name, value in validation_figures(trainer).items())
        if trainer.is_global_zero:
            self._print(f"epoch {trainer.current_epoch}  validation: {scores}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar where it ended."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the bar before the error is printed."""
        if self._bar is not None:
            self._bar.close()

    def _summary(self, trainer: pl.Trainer, module: pl.LightningModule) -> str:
        """Return the line of a batch; what a narrow terminal cuts off stands last."""
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        figures = [
            f"epoch {trainer.current_epoch}  batch {self._done}/{self.total_batches}  {self._time_left()} left",
            f"loss {self._losses['loss']:.3f}  lr {rate:.2e}",
        ]
        if self._stopwatch.batches:
            figures.append(f"{self._stopwatch.images_per_second:.2f} images/s")
            figures.append(f"{self._stopwatch.wait_share:.0%} waiting for data")
        figures.append(f"{peak_memory(module.device):.1f} GB")
        parts = [f"{name} {value:.3f}" for name, value in self._losses.items() if name != "loss"]
        return "  ".join([*figures, *parts])

    def _tell_waiting(self) -> None:
        """Say once that the loader is what training waits for, and what helps."""
        watch = self._whole
        if self._waiting_is_told or watch.batches < _BATCHES_TO_JUDGE or watch.wait_share < _MUCH_WAITING:
            return
        self._waiting_is_told = True
        self._print(
            f"note: {watch.wait_share:.0%} of the time training waits for its data: {self.loader.num_workers} loader "
            f"processes, {os.cpu_count()} cores; see dataset.train.num_workers, dataset.augmentation.*_prob, smaller "
            "image files, a local disk (docs/troubleshooting.md)"
        )

    def _status(self, trainer: pl.Trainer, message: str, kpi: dict[str, float]) -> None:
        self.run.status("RUNNING", message, epoch=trainer.current_epoch, eta=self._time_left(), kpi=kpi)

    def _time_left(self) -> str:
        """Return the time left at the pace so far, validation and checkpoints included."""
        seconds = (time.monotonic() - self._began) / max(self._done - self._first, 1)
        return str(timedelta(seconds=round((self.total_batches - self._done) * seconds)))

    def _print(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()


def _has_width() -> bool:
    """Tell whether stderr is a terminal that can show a line; in a container one may be 0 columns wide."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def _batches_done(module: pl.LightningModule) -> int:
    assert isinstance(module, TrainingModule)
    return module.course.batches_done
