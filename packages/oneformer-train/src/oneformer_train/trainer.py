"""Lightning's trainer as a spec describes it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch

from oneformer_spec.dump import dump
from oneformer_spec.manifest import Manifest
from oneformer_spec.schema import Spec
from oneformer_spec.world import World
from oneformer_train.auto_reduce import AutoReduce
from oneformer_train.checkpoint_io import CheckpointFiles
from oneformer_train.checkpoints import Checkpoints
from oneformer_train.course import Course
from oneformer_train.distributed import cluster, trainer_settings
from oneformer_train.dry_run import VALIDATION_BATCHES
from oneformer_train.intervals import validation_times
from oneformer_train.long_log import LongLog
from oneformer_train.precision import lightning_precision
from oneformer_train.reproduction import Reproduction


def make_trainer(
    spec: Spec,
    folder: Path,
    manifest: Manifest,
    course: Course,
    world: World,
    watching: Sequence[pl.Callback],
    *,
    rehearses: bool,
) -> pl.Trainer:
    """Return the trainer of one process; `watching` are the callbacks that look on."""
    train = spec.train
    torch.backends.cudnn.deterministic = train.cudnn.deterministic
    callbacks: list[pl.Callback] = [*watching, Reproduction(folder, dump(spec))]
    if train.optim.lr_scheduler == "AutoReduce":
        callbacks.append(AutoReduce(train.optim))
    if train.verbose:
        callbacks.append(LongLog())
    callbacks.append(Checkpoints(folder, train))  # last, to save what the others have seen of a batch
    devices = trainer_settings(train, world)
    return pl.Trainer(
        **devices,
        **validation_times(train, course.batches_per_epoch),
        precision=lightning_precision(train.precision, on_gpu=devices["accelerator"] == "gpu"),
        max_epochs=train.num_epochs,
        accumulate_grad_batches=train.accumulate_grad_batches,
        limit_val_batches=VALIDATION_BATCHES if rehearses else None,
        num_sanity_val_steps=0,
        benchmark=train.cudnn.benchmark,
        callbacks=callbacks,
        plugins=[CheckpointFiles(manifest, spec.encryption_key), cluster(world)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def quieten_lightning() -> None:
    """Keep Lightning's advertisements and hints about choices we made on purpose off the terminal."""
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
