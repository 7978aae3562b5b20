"""When checkpoints are written: at intervals, at every epoch's end, and before a signal stops the run."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from oneformer_spec.atomic import write_atomically
from oneformer_spec.errors import OneFormerError
from oneformer_spec.schema import TrainSection
from oneformer_train import ranks
from oneformer_train.resume import LATEST


class StoppedError(OneFormerError):
    """A signal stopped the run after its state was saved."""

    def __init__(self, number: int, latest: Path) -> None:
        """Exit with 128 + the signal's number, as shells do."""
        super().__init__(f"stopped by {signal.Signals(number).name}; {latest} is saved, the same command continues")
        self.exit_code = 128 + number


class Checkpoints(pl.Callback):
    """Writes `model_epoch_007.pth`, or `model_epoch_006_step_25879.pth` by steps, and the latest state."""

    def __init__(self, folder: Path, options: TrainSection) -> None:
        """Write into `folder` at the intervals of `train.checkpoint_interval`."""
        self.folder = folder
        self.interval = options.checkpoint_interval
        self.by_step = options.checkpoint_interval_unit == "step"
        self.epochs_done = 0
        self._signal: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._last_step_saved = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let the first SIGINT or SIGTERM finish the step and save; a second one ends at once."""
        self._handlers = {
            number: signal.signal(number, self._note_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back to whoever had them before the run."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = number

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store how many epochs are complete."""
        checkpoint["epochs_done"] = self.epochs_done

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the count of epochs."""
        self.epochs_done = int(checkpoint["epochs_done"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint of the step interval; stop if a signal came."""
        step = trainer.global_step
        if self.by_step and step % self.interval == 0 and step > self._last_step_saved:
            self._last_step_saved = step
            self._save(trainer, f"model_epoch_{trainer.current_epoch:03d}_step_{step}.pth")
        self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's checkpoint and the latest state."""
        self.epochs_done = trainer.current_epoch + 1
        due = not self.by_step and self.epochs_done % self.interval == 0
        self._save(trainer, f"model_epoch_{trainer.current_epoch:03d}.pth" if due else None)
        self._stop_if_told(trainer)

    def _save(self, trainer: pl.Trainer, name: str | None) -> None:
        latest = self.folder / LATEST
        if name is None:
            trainer.save_checkpoint(latest)
            return
        trainer.save_checkpoint(self.folder / name)
        if trainer.is_global_zero:
            with open(self.folder / name, "rb") as written:
                write_atomically(latest, lambda file: shutil.copyfileobj(written, file))

    def _stop_if_told(self, trainer: pl.Trainer) -> None:
        """Save and stop if a signal came to any process, so that all stop at one step."""
        number = ranks.largest(self._signal or 0)
        if number:
            self._save(trainer, None)
            raise StoppedError(number, self.folder / LATEST)
