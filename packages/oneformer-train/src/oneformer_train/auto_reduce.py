"""AutoReduce at work: after each validation the plateau sees the loss that `train.optim.monitor_name` names."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from oneformer_spec.entry import note
from oneformer_spec.schema import Optim
from oneformer_train.intervals import ValidationTimes, due
from oneformer_train.module import TrainingModule
from oneformer_train.schedule import apply_rates


class AutoReduce(pl.Callback):
    """Shows the plateau `val_loss`, or the mean training loss since the validation before, and applies its factor."""

    def __init__(self, options: Optim, times: ValidationTimes, batches_per_epoch: int) -> None:
        """Watch what `options` name; `times` says when validations come."""
        self.monitor = options.monitor_name
        self.times = times
        self.batches_per_epoch = batches_per_epoch
        self._validated_at = 0  # batches of the run
        self._sum: Tensor | float = 0.0  # training losses since then; a tensor, so that no step waits for the device

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Catch up on a validation that the checkpoint lies before: one written after its batch, but not after it."""
        done = _ours(pl_module).batches_done
        if done > self._validated_at and due(self.times, done, self.batches_per_epoch):
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's loss."""
        self._sum = self._sum + _ours(pl_module).losses["loss"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the loss to the plateau; a reduction counts from the next step on."""
        module = _ours(pl_module)
        batches, self._validated_at = module.batches_done - self._validated_at, module.batches_done
        mean = torch.as_tensor(self._sum, device=module.device, dtype=torch.float32) / max(batches, 1)
        self._sum = 0.0
        loss = float(trainer.callback_metrics["val_loss"]) if self.monitor == "val_loss" else _over_ranks(mean)
        if module.plateau.observe(loss):
            apply_rates(trainer.lr_scheduler_configs[0].scheduler)  # type: ignore[arg-type]
            if trainer.is_global_zero:
                note(f"{self.monitor} no longer falls; the learning rates are times {module.plateau.factor:g} now")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the plateau and the losses on the way to the next validation."""
        checkpoint["auto_reduce"] = {
            "plateau": _ours(pl_module).plateau.state_dict(),
            "validated_at": self._validated_at,
            "sum": float(self._sum),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from there; a run that had another schedule until now starts without a past."""
        state = checkpoint.get("auto_reduce")
        if state is None:
            self._validated_at = int(checkpoint["batches_done"])
            return
        _ours(pl_module).plateau.load_state_dict(state["plateau"])
        self._validated_at, self._sum = int(state["validated_at"]), float(state["sum"])


def _ours(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module


def _over_ranks(mean: Tensor) -> float:
    """Return the mean over ranks, which have seen the same number of batches."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return mean.item()
