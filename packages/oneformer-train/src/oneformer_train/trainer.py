"""Lightning's trainer as a spec describes it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger

from oneformer_spec.commands.exit import note
from oneformer_spec.processes.world import World
from oneformer_spec.schema import Spec, TrainSection
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_train.checkpoints.files import CheckpointFiles
from oneformer_train.checkpoints.position import Course
from oneformer_train.diagnosis.dry_run import VALIDATION_BATCHES, Rehearsal
from oneformer_train.monitoring.curves import STEPS_PER_ROW
from oneformer_train.processes.joining import cluster, trainer_settings


def make_trainer(
    spec: Spec,
    folder: Path,
    manifest: Manifest,
    course: Course,
    world: World,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
) -> pl.Trainer:
    """Return the trainer of one process; `course` says how many batches an epoch has."""
    train = spec.train
    torch.backends.cudnn.deterministic = train.cudnn.deterministic
    devices = trainer_settings(train, world)
    return pl.Trainer(
        **devices,
        **validation_times(train, course.batches_per_epoch),
        precision=lightning_precision(train.precision, on_gpu=devices["accelerator"] == "gpu"),
        max_epochs=train.num_epochs,
        accumulate_grad_batches=train.accumulate_grad_batches,
        limit_val_batches=VALIDATION_BATCHES if any(isinstance(part, Rehearsal) for part in callbacks) else None,
        num_sanity_val_steps=0,
        benchmark=train.cudnn.benchmark,
        callbacks=list(callbacks),
        plugins=[CheckpointFiles(manifest, spec.encryption_key), cluster(world)],
        logger=list(loggers),
        log_every_n_steps=STEPS_PER_ROW,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def silence_lightning() -> None:
    """Silence Lightning's advertisements, and its hints about choices that were made on purpose."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*worker processes in total.*",  # a note of ours says it shorter
        ".*dataloader is not resumable.*",
        ".*in eval mode at the start of training.*",
        ".*smaller than the logging interval.*",
        ".*have no `val_dataloader`.*",
        ".*lr_scheduler.step.* before .*optimizer.step.*",  # fp16: the scaler skipped the first step
        ".*LeafSpec.*",  # Lightning 2.6 with torch 2.14
        ".*sync_dist=True.*",  # scores are those of all processes already
    ):
        warnings.filterwarnings("ignore", message=message)


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


Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
_PRECISION: dict[str, Precision] = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def lightning_precision(precision: str, *, on_gpu: bool) -> Precision:
    """Return what a run computes in; weights, losses and matching stay in 32 bit in any case.

    fp16 scales the loss so that small gradients survive. CPUs compute in bf16 instead, which has the range of fp32.
    """
    if precision == "fp16" and not on_gpu:
        note("train.precision: fp16 needs a GPU; on this CPU the forward pass is computed in bf16")
        return _PRECISION["bf16"]
    return _PRECISION[precision]
