"""Learning-rate schedules as closed forms: the factor of a step depends on nothing but its number.

AutoReduce alone depends on the course of training: its factor is the `Plateau`'s.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from oneformer_spec.schema import Optim
from oneformer_train.optimisation.plateau import Plateau

Factor = Callable[[int], float]
"""Optimiser step, counted from 0 -> what the base learning rates are multiplied with."""

_POLY_POWER = 0.9


def lr_factor(options: Optim, plateau: Plateau, *, total_steps: int, steps_per_epoch: int) -> Factor:
    """Return the schedule that `train.optim` describes.

    Args:
        options: The section; `milestones` and `lr_step_size` count epochs, `steps` and `warmup_iters` optimiser steps.
        plateau: What AutoReduce multiplies with.
        total_steps: Optimiser steps of the whole run; `max_iter` wins over it.
        steps_per_epoch: Optimiser steps of an epoch.
    """
    decay = _decay(options, plateau, options.max_iter or total_steps, steps_per_epoch)
    warmup = warmup_steps(options, options.max_iter or total_steps)
    return lambda step: decay(step) * _warmup(step, warmup, options.warmup_factor)


def apply_rates(scheduler: LambdaLR) -> None:
    """Set the learning rates of the next step to what the schedule says now."""
    for group, rate, factor in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = rate * factor(scheduler.last_epoch)


def warmup_steps(options: Optim, total_steps: int) -> int:
    """Return the length of the linear warm-up in optimiser steps."""
    if options.warmup_iters is not None:
        return options.warmup_iters
    return min(1000, total_steps // 10) if options.lr_scheduler in ("WarmupPoly", "Cosine") else 0


def move_to(step: int, factor: Factor, checkpoint: dict[str, Any]) -> None:
    """Rewrite the schedule's state in a checkpoint in place, as though `step` optimiser steps were done."""
    for state in checkpoint["lr_schedulers"]:
        state["last_epoch"], state["_step_count"] = step, step + 1
        state["_last_lr"] = [base * factor(step) for base in state["base_lrs"]]
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group["lr"] = group["initial_lr"] * factor(step)


def _warmup(step: int, length: int, start: float) -> float:
    return 1.0 if step >= length else start + (1.0 - start) * step / length


def _decay(options: Optim, plateau: Plateau, total: int, per_epoch: int) -> Factor:
    gamma = options.gamma
    match options.lr_scheduler:
        case "MultiStep":
            at = list(options.steps) if options.steps else [epoch * per_epoch for epoch in options.milestones]
            return lambda step: float(gamma ** bisect_right(at, step))
        case "StepLR":
            return lambda step: float(gamma ** (step // (options.lr_step_size * per_epoch)))
        case "WarmupPoly":
            return lambda step: float((1.0 - min(step, total) / total) ** _POLY_POWER)
        case "Cosine":
            return lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step, total) / total))
        case "AutoReduce":
            return lambda step: plateau.factor
        case _:
            return lambda step: 1.0
