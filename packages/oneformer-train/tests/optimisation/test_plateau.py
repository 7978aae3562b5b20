"""AutoReduce reduces when, and only when, the loss has not improved for longer than its patience."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from oneformer_train.optimisation.plateau import Plateau


def factors(losses: list[float], *, patience: int, gamma: float = 0.1) -> list[float]:
    plateau = Plateau(gamma=gamma, patience=patience)
    found = []
    for loss in losses:
        plateau.observe(loss)
        found.append(plateau.factor)
    return found


def test_patience_is_the_number_of_validations_that_are_borne() -> None:
    assert factors([5.0, 4.0, 4.0, 4.1, 4.2], patience=2) == pytest.approx([1, 1, 1, 1, 0.1])
    assert factors([5.0, 4.0, 4.0, 4.1, 4.2], patience=1) == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_an_improvement_starts_the_count_anew() -> None:
    assert factors([5.0, 5.0, 4.0, 5.0, 5.0], patience=1, gamma=0.5) == [1, 1, 1, 1, 0.5]


def test_a_hair_is_no_improvement() -> None:
    assert factors([5.0, 4.9999, 4.9998], patience=1, gamma=0.5)[-1] == 0.5
    assert factors([5.0, 4.99, 4.98], patience=1, gamma=0.5)[-1] == 1.0


def test_a_loss_that_is_no_number_never_counts_as_the_best() -> None:
    assert factors([float("nan"), 5.0, 4.0, 3.0, 2.0], patience=1, gamma=0.5) == [1.0] * 5
    assert factors([5.0, float("nan"), float("inf")], patience=1, gamma=0.5) == [1, 1, 0.5]


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_agrees_with_torch(patience: int) -> None:
    losses = torch.rand(200, generator=torch.Generator().manual_seed(patience)).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = ReduceLROnPlateau(optimizer, factor=0.9, patience=patience, min_lr=0, eps=0)
    expected = []
    for loss in losses:
        reference.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    assert factors(losses, patience=patience, gamma=0.9) == pytest.approx(expected)
    assert expected[-1] < 0.1


def test_its_state_goes_on_in_another() -> None:
    losses, whole = [3.0, 3.0, 3.0, 3.0, 3.0, 3.0], Plateau(gamma=0.5, patience=2)
    first, second = Plateau(gamma=0.5, patience=2), Plateau(gamma=0.5, patience=2)
    for loss in losses:
        whole.observe(loss)
    for loss in losses[:3]:
        first.observe(loss)
    second.load_state_dict(first.state_dict())
    for loss in losses[3:]:
        second.observe(loss)
    assert second.state_dict() == whole.state_dict()
    assert whole.factor == 0.5
