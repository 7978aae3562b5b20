"""What is needed to see again how a step failed: a checkpoint of before it, and its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from oneformer_model import Texts
from oneformer_train.batches.batch import Batch
from oneformer_train.loss.nonfinite import NonFiniteError
from oneformer_train.module import TrainingModule
from oneformer_train.processes import group

REPRODUCTION = "reproduction"
"""Where a checkpoint that `Reproduction` wrote keeps the batch, the loss terms and the spec."""


class Reproduction(pl.Callback):
    """Remembers where each batch began, and writes a checkpoint from there when it ended in `NonFiniteError`.

    The checkpoint is a whole one: it holds weights, optimiser and place in the stream of before the batch, so that
    `train.resume_training_checkpoint_path` runs into the same error. Beside that it holds the batch itself.
    """

    def __init__(self, folder: Path, spec_text: str) -> None:
        """Write into `folder`; `spec_text` is the resolved spec."""
        self.folder = folder
        self.spec_text = spec_text
        self._batch: Batch | None = None
        self._done = 0, 0  # batches and samples before it
        self._content: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch and its place in the stream."""
        course = _ours(pl_module).course
        self._batch, self._done = batch, (course.batches_done, course.samples_done)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let go of a batch that went well."""
        self._batch = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the file, and tell the error what it needs to say."""
        if not isinstance(exception, NonFiniteError) or self._batch is None:
            return
        terms, batch, rank = _of_failing_rank(exception.terms, _on_cpu(self._batch))
        exception.step, exception.terms, exception.names = trainer.global_step, terms, batch.names
        exception.file = self.folder / f"nonfinite_step_{trainer.global_step}.pth"
        course = _ours(pl_module).course
        course.batches_done, course.samples_done = self._done
        plain = {**batch._asdict(), "texts": batch.texts._asdict()}
        self._content = {"what": exception.what, "terms": terms, "batch": plain, "rank": rank, "spec": self.spec_text}
        trainer.save_checkpoint(exception.file)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the batch to the checkpoint of a failure."""
        if self._content is not None:
            checkpoint[REPRODUCTION] = {**self._content, "step": trainer.global_step}


def batch_of(plain: Mapping[str, Any]) -> Batch:
    """Return the batch that a reproduction holds as plain data."""
    return Batch(**{**plain, "texts": Texts(**plain["texts"])})


def _ours(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module


def _on_cpu(batch: Batch) -> Batch:
    return Batch(
        names=batch.names,
        image=batch.image.cpu(),
        task_tokens=batch.task_tokens.cpu(),
        labels=[labels.cpu() for labels in batch.labels],
        masks=[masks.cpu() for masks in batch.masks],
        texts=Texts(*(part.cpu() for part in batch.texts)),
    )


def _of_failing_rank(terms: dict[str, float], batch: Batch) -> tuple[dict[str, float], Batch, int]:
    """Return terms, batch and number of the first rank whose terms are not finite; of rank 0 where there is none."""
    parts = group.collect((terms, batch))

    def chosen() -> tuple[dict[str, float], Batch, int]:
        assert parts is not None
        number = next((rank for rank, (found, _) in enumerate(parts) if not all(map(math.isfinite, found.values()))), 0)
        return (*parts[number], number)

    return group.from_first(chosen)
