"""Validation comes at the part of an epoch, or the number of steps, that the spec says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oneformer_spec.schema import TrainSection
from oneformer_train.intervals import due, validation_times

BATCHES = 12


def times(**fields: float) -> list[int]:
    """Return after which of 36 batches, three epochs, validation comes."""
    found = validation_times(replace(TrainSection(), **fields), BATCHES)  # type: ignore[arg-type]
    return [done for done in range(3 * BATCHES + 1) if due(found, done, BATCHES)]


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
def test_validation_comes_when_the_spec_says(fields: dict[str, float], expected: list[int]) -> None:
    assert times(**fields) == expected
