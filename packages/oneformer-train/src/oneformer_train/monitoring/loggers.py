"""The loggers of a run, Lightning's interface: what they may have beyond it, and which ones a spec asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger

from oneformer_spec.schema import Spec
from oneformer_train.monitoring.event_files import tensorboard_logger
from oneformer_train.monitoring.metrics_table import csv_logger
from oneformer_train.monitoring.weights_and_biases import wandb_logger


@runtime_checkable
class Resumable(Protocol):
    """A logger that continues the record of an interrupted run."""

    def resume(self, step: int) -> None:
        """Begin after `step` optimiser steps, 0 in a fresh run; entries of later steps are to be dropped."""


@runtime_checkable
class ShowsPictures(Protocol):
    """A logger that takes pictures, as Lightning's WandbLogger does."""

    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None) -> Any:
        """Record pictures, RGB (H, W, 3), under one name."""


def make_loggers(spec: Spec, folder: Path) -> list[Logger]:
    """Return the loggers of a run in `folder`.

    The one of Weights & Biases comes first: it has to begin before TensorBoard's file is opened to copy what is
    written there.
    """
    report = wandb_logger(spec, folder)
    return [*([report] if report is not None else []), csv_logger(spec, folder), tensorboard_logger(spec, folder)]
