"""AutoReduce at work: after each validation the plateau sees the loss that `train.optim.monitor_name` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import pytorch_lightning as pl
from torch import Tensor

from oneformer_spec.commands.exit import note
from oneformer_spec.schema import Optim
from oneformer_train.checkpoints.position import Course
from oneformer_train.optimisation.plateau import Plateau
from oneformer_train.optimisation.schedule import apply_rates


class _Watched(Protocol):
    """What this needs of the training module."""

    course: Course
    losses: Mapping[str, Tensor]
    plateau: Plateau


class AutoReduce(pl.Callback):
    """Shows the plateau `val_loss`, or the mean training loss since the validation before, and applies its factor."""

    def __init__(self, options: Optim) -> None:
        """Watch what `options` name."""
        self.monitor = options.monitor_name
        self._validated_at = 0  # batches of the run
        self._sum: Tensor | float = 0.0  # training losses since then; a tensor, so that no step waits for the device

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's loss."""
        self._sum = self._sum + _ours(pl_module).losses["loss"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the loss to the plateau; a reduction counts from the next step on."""
        module = _ours(pl_module)
        batches, self._validated_at = module.course.batches_done - self._validated_at, module.course.batches_done
        mean, self._sum = float(self._sum) / max(batches, 1), 0.0  # of all processes, as each batch's losses are
        loss = float(trainer.callback_metrics["val_loss"]) if self.monitor == "val_loss" else mean
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


def _ours(module: pl.LightningModule) -> _Watched:
    return cast(_Watched, module)
