"""Validation comes at the part of an epoch, or the number of steps, that the spec says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from oneformer_spec.schema import TrainSection
from oneformer_train.trainer import validation_times

BATCHES = 12


class Counter(pl.LightningModule):
    """Trains nothing, and notes after how many batches it is validated."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.done = 0
        self.validated: list[int] = []

    def training_step(self, batch: torch.Tensor) -> None:
        self.done += 1

    def validation_step(self, batch: torch.Tensor) -> None:
        self.validated.append(self.done)

    def configure_optimizers(self) -> None:
        return None


def times(**fields: float) -> list[int]:
    """Return after which of 36 batches, three epochs, Lightning validates."""
    train, counter = replace(TrainSection(), **fields), Counter()  # type: ignore[arg-type]
    trainer = pl.Trainer(
        **validation_times(train, BATCHES),
        max_epochs=3,
        accelerator="cpu",
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(counter, DataLoader(torch.zeros(BATCHES), batch_size=1), DataLoader(torch.zeros(1)))  # type: ignore[arg-type]
    return counter.validated


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [12, 24, 36]),
        ({"validation_interval": 2}, [24]),
        ({"val_check_interval": 0.5}, [6, 12, 18, 24, 30, 36]),
        ({"val_check_interval": 0.5, "validation_interval": 2}, [18, 24]),
        ({"val_check_interval": 0.4}, [5, 10, 17, 22, 29, 34]),
        ({"val_check_interval": 1e-6}, list(range(1, 37))),
        ({"val_check_interval": 9.0}, [9, 18, 27, 36]),
        ({"val_check_interval": 20.0}, [20]),
        ({"val_check_interval": 9.0, "accumulate_grad_batches": 2}, [18, 36]),
        ({"val_check_interval": 0.4, "accumulate_grad_batches": 3}, [6, 12, 18, 24, 30, 36]),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Lightning has hints for tiny loaders
def test_validation_comes_when_the_spec_says(fields: dict[str, float], expected: list[int]) -> None:
    assert times(**fields) == expected
