"""The checks of evaluators and transforms pass what is right and name what is wrong."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from oneformer_data import plugin
from oneformer_data.testing import check_evaluator, check_transform
from oneformer_spec.hooks import Evaluator, Transform


@pytest.mark.parametrize("declaration", plugin.oneformer_evaluators(), ids=lambda declaration: declaration.name)
def test_the_scores_of_this_package_keep_the_contract(declaration: Evaluator) -> None:
    check_evaluator(declaration)


class Counter:
    """A score that counts images."""

    def __init__(self, labels: object) -> None:
        self.count = 0

    def update(self, sample: object, segmentation: object) -> None:
        self.count += 1

    def merge(self, other: Counter) -> None:
        self.count += other.count

    def compute(self) -> object:
        return {"images": self.count}


class Forgetful(Counter):
    """A score that loses what another process counted."""

    def merge(self, other: Counter) -> None:
        pass


class Listing(Counter):
    """A score whose numbers have no names."""

    def compute(self) -> object:
        return [self.count]


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(
        Counter=Counter,
        Forgetful=Forgetful,
        Listing=Listing,
        flip=lambda: (
            lambda sample, rng: replace(
                sample, image=sample.image[:, ::-1].copy(), id_maps=sample.id_maps[..., ::-1].copy()
            )
        ),
        own_dice=lambda: lambda sample, rng: replace(sample, name=f"{next(DICE)}"),
        cut=lambda: lambda sample, rng: replace(sample, image=sample.image[:1]),
        paint=lambda: paint,
    )
    monkeypatch.setitem(sys.modules, "pretended_parts", known)


DICE = iter(range(10**6))


def paint(sample, rng):
    sample.image[:] = 0
    return sample


def test_an_evaluator_of_ones_own_passes() -> None:
    check_evaluator(Evaluator("counter", "pretended_parts:Counter", "semantic", {"images": ("images",)}))


@pytest.mark.parametrize(
    ("target", "headline", "message"),
    [
        ("Forgetful", None, "images counted in two parts give other numbers"),
        ("Listing", None, "compute returns list, expected a mapping"),
        ("Counter", {"mIoU": ("all", "mIoU")}, "the headline mIoU is None, expected a number"),
    ],
)
def test_an_evaluator_that_breaks_the_contract_is_named(target: str, headline: object, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^mine: {message}"):
        check_evaluator(Evaluator("mine", f"pretended_parts:{target}", "semantic", headline))


def test_a_transform_passes() -> None:
    check_transform(Transform("flip", "pretended_parts:flip"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own_dice", "the same random numbers give another sample"),
        ("cut", "whole.png: image is|whole.png: id_maps is"),
        ("paint", "the sample that it was given is changed"),
    ],
)
def test_a_transform_that_breaks_the_contract_is_named(target: str, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^mine: (?:{message})"):
        check_transform(Transform("mine", f"pretended_parts:{target}"))
