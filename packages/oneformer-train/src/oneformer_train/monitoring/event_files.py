"""TensorBoard's event files: the curves of a run, and sample predictions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric.loggers.logger import rank_zero_experiment
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from tensorboardX import SummaryWriter

from oneformer_spec.schema import Spec

TENSORBOARD = "tensorboard"
"""Name in the folder of a run."""


def tensorboard_logger(spec: Spec, folder: Path) -> TensorBoard:
    """Return the logger `tensorboard`, which writes into `tensorboard/` in the folder of the run."""
    return TensorBoard(folder / TENSORBOARD)


class TensorBoard(Logger):
    """Writes an event file per process start; TensorBoard shows those of a folder as one run."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder` once `resume` has been called."""
        super().__init__()
        self.folder = folder
        self._writer: Any = None

    @property
    def name(self) -> str:
        """The name in `train.loggers`."""
        return "tensorboard"

    @property
    def version(self) -> str:
        """Empty: a folder holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `SummaryWriter`, for what a callback of your own adds; before training starts it ignores everything."""
        return self._writer

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Continue after `step` optimiser steps: TensorBoard hides what an earlier process wrote about later ones."""
        # The suffix keeps the files of two processes apart that start within a second.
        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1, filename_suffix=f".{time.time_ns()}")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each curve."""
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)
        self.experiment.flush()

    @rank_zero_only
    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None) -> None:
        """Add pictures, RGB (H, W, 3), under one name."""
        for picture in images:
            self.experiment.add_image(key, picture, step, dataformats="HWC")
        self.experiment.flush()

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings of a run are in its `experiment.yaml`."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file, if training got as far as opening it."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
