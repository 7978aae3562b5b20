"""Every schedule gives the learning rates that its fields promise."""

from dataclasses import replace

import pytest

from oneformer_spec.schema import Optim
from oneformer_train.optimisation.plateau import Plateau
from oneformer_train.optimisation.schedule import lr_factor

DEFAULT = Optim()


def factors(options: Optim, steps: list[int]) -> list[float]:
    factor = lr_factor(options, Plateau(gamma=0.5, patience=1), total_steps=100, steps_per_epoch=10)
    return [factor(step) for step in steps]


def test_multistep_decays_after_its_epochs() -> None:
    options = replace(DEFAULT, lr_scheduler="MultiStep", milestones=(3, 5), gamma=0.1)
    assert factors(options, [0, 29, 30, 49, 50, 99]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_multistep_decays_at_steps_when_they_are_given() -> None:
    options = replace(DEFAULT, lr_scheduler="MultiStep", steps=(7, 9), gamma=0.5)
    assert factors(options, [6, 7, 8, 9]) == pytest.approx([1, 0.5, 0.5, 0.25])


def test_step_lr_decays_every_so_many_epochs() -> None:
    options = replace(DEFAULT, lr_scheduler="StepLR", lr_step_size=2, gamma=0.5)
    assert factors(options, [0, 19, 20, 40]) == pytest.approx([1, 1, 0.5, 0.25])


def test_poly_warms_up_linearly_and_falls_to_zero() -> None:
    options = replace(DEFAULT, lr_scheduler="WarmupPoly", warmup_iters=10, warmup_factor=0.1)
    assert factors(options, [0, 5, 50, 100]) == pytest.approx([0.1, 0.95**0.9 * 0.55, 0.5**0.9, 0.0])


def test_cosine_warms_up_over_a_tenth_of_the_run_by_itself() -> None:
    options = replace(DEFAULT, lr_scheduler="Cosine", warmup_factor=0.0)
    assert factors(options, [0, 10, 50, 100]) == pytest.approx([0.0, 0.9755282581, 0.5, 0.0])


def test_constant_stays() -> None:
    assert factors(replace(DEFAULT, lr_scheduler="constant"), [0, 50, 99]) == [1.0, 1.0, 1.0]


def test_max_iter_ends_the_schedule_before_the_run() -> None:
    options = replace(DEFAULT, lr_scheduler="Cosine", warmup_iters=0, max_iter=50)
    assert factors(options, [25, 50, 99]) == pytest.approx([0.5, 0.0, 0.0])


def test_auto_reduce_warms_up_and_then_follows_the_plateau() -> None:
    options = replace(DEFAULT, lr_scheduler="AutoReduce", warmup_iters=10, warmup_factor=0.1)
    plateau = Plateau(gamma=0.5, patience=1)
    factor = lr_factor(options, plateau, total_steps=100, steps_per_epoch=10)
    assert [factor(step) for step in (0, 5, 10, 99)] == pytest.approx([0.1, 0.55, 1.0, 1.0])
    plateau.factor = 0.25
    assert [factor(step) for step in (5, 10, 99)] == pytest.approx([0.25 * 0.55, 0.25, 0.25])


def test_auto_reduce_does_not_warm_up_by_itself() -> None:
    assert factors(replace(DEFAULT, lr_scheduler="AutoReduce"), [0, 50]) == [1.0, 1.0]
