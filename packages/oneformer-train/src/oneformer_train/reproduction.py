"""What is needed to see again how a step failed: a checkpoint of before it, and its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from oneformer_model import Texts
from oneformer_train.batch import Batch
from oneformer_train.finite import NonFiniteError
from oneformer_train.module import TrainingModule

REPRODUCTION = "reproduction"
"""Where a checkpoint that `Reproduction` wrote keeps the batch, the loss terms and the spec."""


class Reproduction(pl.Callback):
    """Remembers where each batch began, and writes a checkpoint from there when it ended in `NonFiniteError`.

    The checkpoint is a whole one: it holds weights, optimiser and random state of before the batch, so that
    `train.resume_training_checkpoint_path` runs into the same error. Beside that it holds the batch itself.
    """

    def __init__(self, folder: Path, spec_text: str) -> None:
        """Write into `folder`; `spec_text` is the resolved spec."""
        self.folder = folder
        self.spec_text = spec_text
        self._batch: Batch | None = None
        self._random: dict[str, Tensor] = {}
        self._batches_done = 0
        self._content: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch and what random numbers it will see."""
        self._batch, self._random, self._batches_done = batch, random_state(), _ours(pl_module).batches_done

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let go of a batch that went well."""
        self._batch = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the file, and tell the error what it needs to say."""
        if not isinstance(exception, NonFiniteError) or self._batch is None:
            return
        terms, batch = _of_failing_rank(exception.terms, _on_cpu(self._batch))
        exception.step, exception.terms, exception.names = trainer.global_step, terms, batch.names
        exception.file = self.folder / f"nonfinite_step_{trainer.global_step}.pth"
        _ours(pl_module).batches_done = self._batches_done
        restore_random_state(self._random)
        plain = {**batch._asdict(), "texts": batch.texts._asdict()}
        self._content = {"what": exception.what, "terms": terms, "batch": plain, "spec": self.spec_text}
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


def random_state() -> dict[str, Tensor]:
    """Return the state of torch's random numbers, on the CPU and on the current GPU where CUDA is in use."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {})


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Go back to what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


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


def _of_failing_rank(terms: dict[str, float], batch: Batch) -> tuple[dict[str, float], Batch]:
    """Return terms and batch of the first rank whose terms are not finite; of this one where there is no other."""
    if not (dist.is_available() and dist.is_initialized()):
        return terms, batch
    failed: list[bool] = [False] * dist.get_world_size()
    dist.all_gather_object(failed, not all(map(math.isfinite, terms.values())))
    content = [(terms, batch)]
    dist.broadcast_object_list(content, src=failed.index(True) if True in failed else 0)
    return content[0]
