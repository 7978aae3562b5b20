"""The loggers of a run, Lightning's interface: what they may have beyond it, and which ones a spec asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger

from oneformer_spec.schema import Spec
from oneformer_train.monitoring.weights_and_biases import wandb_logger
from oneformer_train.plugin_parts import PluginParts


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


def make_loggers(spec: Spec, parts: PluginParts) -> list[Logger]:
    """Return the loggers of a run: those of `train.loggers`, and that of Weights & Biases where `wandb.*` asks for it.

    It comes first: it has to begin before TensorBoard's file is opened to copy what is written there.

    Raises:
        SpecError: A logger is not installed.
        PluginError: A logger cannot be made.
    """
    report = wandb_logger(spec, parts.folder)
    chosen: list[Logger] = [parts.make("logger", entry, Logger) for entry in spec.train.loggers]
    return [*([report] if report is not None else []), *chosen]
