"""When checkpoints are written: at intervals, at every epoch's end, for a good score, and before a signal stops a run.

A state is saved only where an optimiser step is complete: between two batches of an accumulation there are gradients
that no checkpoint holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from oneformer_spec.schema import TrainSection
from oneformer_train.checkpoints.position import between_batches, between_epochs, validation_due
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.checkpoints.retention import Retention
from oneformer_train.checkpoints.stop_signals import StoppedError, StopSignals
from oneformer_train.processes import group


class Checkpoints(pl.Callback):
    """Writes the latest state, and from it `model_epoch_007.pth`, or `model_epoch_006_step_25879.pth`, and the best."""

    def __init__(self, folder: Path, options: TrainSection) -> None:
        """Write into `folder` at the intervals of `train.checkpoint_interval`, as `train.checkpointer` says."""
        self.latest = folder / LATEST
        self.interval = options.checkpoint_interval
        self.by_step = options.checkpoint_interval_unit == "step"
        self.retention = Retention(folder, options.checkpointer)
        self.epochs_done = 0
        self._stop = StopSignals()
        self._epoch_is_over = False
        self._due = self._validated = False  # of the validation that belongs to the newest batch
        self._step_complete = True
        self._saved = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let the first SIGINT or SIGTERM finish the step and save; a second one ends at once."""
        self._stop.listen()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back to whoever had them before the run."""
        self._stop.give_back()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store how far the run has come, and which files it keeps."""
        checkpoint["epochs_done"] = self.epochs_done
        checkpoint["epoch_is_over"] = self._epoch_is_over
        checkpoint["kept"] = self.retention.state()
        if self._epoch_is_over:
            between_epochs(checkpoint["loops"])
        else:
            between_batches(checkpoint["loops"], due=self._due, validated=self._validated)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up what was stored."""
        self.epochs_done = int(checkpoint["epochs_done"])
        self._epoch_is_over = bool(checkpoint["epoch_is_over"])
        self.retention.load(checkpoint["kept"], Path(str(trainer.ckpt_path)))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an epoch as in a run that never stopped, where the checkpoint was written between two."""
        if self._epoch_is_over:
            trainer.fit_loop.restarting = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint of the step interval; stop if a signal came."""
        self._epoch_is_over = self._validated = self._saved = False
        self._due = validation_due(trainer, batch_idx)
        self._step_complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not self._step_complete or (trainer.is_last_batch and not self._due):
            return  # the epoch's end follows at once
        if self._periodic_step(trainer):
            self._save(trainer, self._step_name(trainer))
        self._obey_signal(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if a signal came: the run continues with this validation from its beginning."""
        if self._step_complete:
            self._obey_signal(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state that was scored; after an epoch's last batch, the epoch's end does that."""
        self._validated = True
        self._saved = False
        if self._step_complete and not trainer.is_last_batch:
            self._save(trainer, None)
            self._obey_signal(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the latest state, and the epoch's checkpoint where it is due."""
        self.epochs_done = trainer.current_epoch + 1
        self._epoch_is_over = True
        self._saved = False
        if self.by_step:
            due = self._periodic_step(trainer) and not self._due  # otherwise it was written before the validation
            name = self._step_name(trainer) if due else None
        else:
            due = self.epochs_done % self.interval == 0
            name = f"model_epoch_{trainer.current_epoch:03d}.pth" if due else None
        self._save(trainer, name)
        self._obey_signal(trainer)

    def _periodic_step(self, trainer: pl.Trainer) -> bool:
        return self.by_step and trainer.global_step % self.interval == 0

    def _step_name(self, trainer: pl.Trainer) -> str:
        return f"model_epoch_{trainer.current_epoch:03d}_step_{trainer.global_step}.pth"

    def _save(self, trainer: pl.Trainer, periodic: str | None) -> None:
        """Write the latest state with its plan, then carry the plan out."""
        values: dict[str, float] | None = None
        if self._validated:
            scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
            values = {"epoch": trainer.current_epoch, "step": trainer.global_step, **scores}
        self.retention.plan(periodic, values)
        trainer.save_checkpoint(self.latest)
        if trainer.is_global_zero:
            self.retention.settle(self.latest)
        self._saved = True

    def _obey_signal(self, trainer: pl.Trainer) -> None:
        """Save, unless that was just done, and stop if a signal came to any process, so that all stop at one step."""
        number = group.largest(self._stop.received or 0)
        if not number:
            return
        if not self._saved:
            self._save(trainer, None)
        raise StoppedError(number, self.latest)
