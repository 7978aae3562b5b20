"""`train.is_dry_run`: a very short run of the real thing in a folder that is thrown away, and a report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from oneformer_data.sample import Sample
from oneformer_spec.commands.run_folder import results_folder
from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.schema import Spec
from oneformer_spec.schema.train import Checkpointer, TrainSection
from oneformer_train.batches.batch import Batch
from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.checkpoints.position import Course
from oneformer_train.checkpoints.resume import LATEST, find_start
from oneformer_train.monitoring.stopwatch import Stopwatch, peak_memory

STEPS = VALIDATION_BATCHES = 2


@contextmanager
def temporary_folder(spec: Spec) -> Iterator[Path]:
    """Give a folder on the disk where the run would write, and remove it.

    Raises:
        SpecError: The path, or a parent of it, is a file.
        OneFormerError: Nothing can be written there.
    """
    wanted = results_folder(spec, "train").absolute()
    parent = next(path for path in (wanted, *wanted.parents) if path.exists())
    if not parent.is_dir():
        raise SpecError(f"{parent}: is a file; results_dir must name a folder")
    try:
        folder = tempfile.TemporaryDirectory(prefix=".oneformer_dry_run_", dir=parent)
    except OSError as error:
        raise OneFormerError(f"{parent}: cannot write results there: {error.strerror}") from None
    with folder:
        yield Path(folder.name)


def shortened(spec: Spec, folder: Path) -> Spec:
    """Return the spec of one epoch of two steps, a validation and a checkpoint in `folder`, reported to nobody."""
    train = replace(
        spec.train,
        num_epochs=1,
        iters_per_epoch=STEPS,
        validation_interval=1,
        val_check_interval=1.0,
        checkpoint_interval=1,
        checkpoint_interval_unit="epoch",
        checkpointer=Checkpointer(),
        resume_training_checkpoint_path=None,
        results_dir=str(folder),
        loggers=TrainSection().loggers,
    )
    return replace(spec, train=train, wandb=replace(spec.wandb, enable=False))


class Rehearsal(pl.Callback):
    """Measures a shortened run, and estimates the whole one from it."""

    def __init__(
        self, spec: Spec, short: Spec, loader: TimedLoader, course: Course, samples: Sequence[Sample] | None
    ) -> None:
        """Measure the run of `short` for that of `spec`, whose epochs `course` counts; `samples` are validated on."""
        self.train = spec.train
        self.folder = results_folder(short, "train")
        self.total_batches = spec.train.num_epochs * course.batches_per_epoch
        self.num_pictures = len(samples or ())
        self._stopwatch = Stopwatch(loader)
        self._pictures = 0
        self._validation_began = self._validation_seconds = 0.0
        self._parameters = self._trained = 0
        self._device = torch.device("cpu")
        self._memory = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clock of a batch."""
        self._stopwatch.begin()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Stop the clock when the device is done."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._stopwatch.end(len(batch.names) * trainer.world_size)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the validation."""
        self._validation_began = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: list[Sample],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the pictures."""
        self._pictures += len(batch) * trainer.world_size
        self._validation_seconds = time.monotonic() - self._validation_began

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at what is left of it."""
        self._device = pl_module.device
        self._parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        self._trained = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        self._memory = peak_memory(pl_module.device)

    def report(self) -> str:
        """Read the checkpoint back and return the report.

        Raises:
            CheckpointError: The checkpoint cannot be read.
        """
        find_start(self.folder, None)
        size = (self.folder / LATEST).stat().st_size / 1e6
        seconds = self._stopwatch.seconds / max(self._stopwatch.batches, 1)
        steps = self.total_batches // self.train.accumulate_grad_batches
        rows = [
            ("parameters", f"{self._parameters:,}, of which {self._trained:,} are trained"),
            ("step", f"{seconds * self.train.accumulate_grad_batches:.2f} s, {self._speed()}"),
            ("peak memory", f"{self._memory:.2f} GB of {_name(self._device)}"),
            ("checkpoint", f"{size:.0f} MB, written and read back"),
            ("validation", self._validation()),
            ("estimate", f"{_duration(self.total_batches * seconds)} for {steps:,} steps{self._with_validation()}"),
        ]
        lines = [f"  {name:<12} {value}" for name, value in rows]
        return "\n".join([f"dry run: {STEPS} steps went well; nothing is left of them", *lines])

    def _speed(self) -> str:
        return f"{self._stopwatch.images_per_second:.2f} images/s"

    def _validation(self) -> str:
        if not self._pictures:
            return "none: dataset.val is not set"
        per_picture = self._validation_seconds / self._pictures
        return f"{self._pictures} pictures in {per_picture:.2f} s each, sample pictures drawn"

    def _with_validation(self) -> str:
        times = self.train.num_epochs // self.train.validation_interval
        if not self._pictures or not times:
            return ""
        seconds = times * self.num_pictures * self._validation_seconds / self._pictures
        return f", and {_duration(seconds)} for {times} validations of {self.num_pictures:,} pictures"


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "main memory, loader processes not counted"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
