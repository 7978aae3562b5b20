"""When a run validates: `train.val_check_interval` and `train.validation_interval` as Lightning takes them."""

from __future__ import annotations

from typing import TypedDict

from oneformer_spec.schema import TrainSection


class ValidationTimes(TypedDict):
    """Two of Lightning's settings: a number of batches, and of epochs; without epochs, batches count over the run."""

    val_check_interval: int
    check_val_every_n_epoch: int | None


def validation_times(train: TrainSection, batches_per_epoch: int) -> ValidationTimes:
    """Return after which batches validation comes; it always follows an optimiser step.

    Up to 1 the interval is the part of an epoch, rounded to optimiser steps, in those epochs that `validation_interval`
    names. Above 1 it is a number of optimiser steps, counted over the whole run.
    """
    interval, accumulated = train.val_check_interval, train.accumulate_grad_batches
    if interval > 1:
        return {"val_check_interval": int(interval) * accumulated, "check_val_every_n_epoch": None}
    steps = max(1, round(interval * (batches_per_epoch // accumulated)))
    return {"val_check_interval": steps * accumulated, "check_val_every_n_epoch": train.validation_interval}
