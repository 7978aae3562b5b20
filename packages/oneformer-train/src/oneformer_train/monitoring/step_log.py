"""`train.verbose`: what is trained and how, before the first step, and then a line per optimiser step."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from tqdm import tqdm

from oneformer_train.module import TrainingModule


class StepLog(pl.Callback):
    """Writes to stderr: parts of the network and parameter groups; per step losses, gradients, rates, times, memory."""

    def __init__(self) -> None:
        """Start without a step."""
        self._step_began = self._waited = self._ready_since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what is trained, and how."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero:
            for line in (*_parts(pl_module.model), *_groups(trainer.optimizers[0])):
                _write(line)
        self._step_began = self._ready_since = time.monotonic()
        self._waited = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note how long the batch was waited for."""
        self._waited += time.monotonic() - self._ready_since

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell what the step did, once its last batch is through."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.course.batches_done % trainer.accumulate_grad_batches == 0:
            if trainer.is_global_zero:
                _write("  ".join(self._step(trainer, pl_module)))
            self._step_began, self._waited = time.monotonic(), 0.0
        self._ready_since = time.monotonic()

    def _step(self, trainer: pl.Trainer, module: TrainingModule) -> list[str]:
        words = [f"step {trainer.global_step}"]
        words += [f"{name} {value.item():.4g}" for name, value in module.losses.items()]
        if module.gradient_norm is not None:
            words.append(f"gradient norm {module.gradient_norm.item():.4g}")
        if trainer.scaler is not None:
            words.append(f"loss scale {trainer.scaler.get_scale():g}")
        words += [f"{group['name']} lr {group['lr']:.3e}" for group in trainer.optimizers[0].param_groups]
        words.append(f"{time.monotonic() - self._step_began:.2f} s, {self._waited:.2f} s of it for data")
        if module.device.type == "cuda":
            words.append(f"{torch.cuda.max_memory_allocated(module.device) / 2**30:.2f} GiB at most")
        return words


def _parts(model: nn.Module) -> list[str]:
    lines = []
    for name, part in model.named_children():
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in part.parameters()]
        trained = sum(count for count, is_trained in counts if is_trained)
        lines.append(f"{name}: {sum(count for count, _ in counts):,} parameters, {trained:,} are trained")
    return lines


def _groups(optimizer: torch.optim.Optimizer) -> list[str]:
    kind = type(optimizer).__name__
    return [
        f"{kind}, {group['name']}: {len(group['params'])} tensors, {sum(value.numel() for value in group['params']):,} "
        f"parameters, lr {group['initial_lr']:g}, weight decay {group['weight_decay']:g}"
        for group in optimizer.param_groups
    ]


def _write(line: str) -> None:
    tqdm.write(line, file=sys.stderr)  # above the bar, where there is one
