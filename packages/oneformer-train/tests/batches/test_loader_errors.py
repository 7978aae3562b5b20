"""An error in a loader process is the error that it would be without one."""

from __future__ import annotations

from typing import Any

import pytest

from oneformer_spec.errors import DataError, OneFormerError, SpecError
from oneformer_train.batches.loader_errors import Batches, Loader, unchanged


class OddError(Exception):
    """Cannot be made from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Failing:
    """A data set whose third sample raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise self.error
        return index


def load(error: Exception, workers: int) -> list[Any]:
    batches = Batches(Failing(error), list)
    return list(Loader(batches, batch_sampler=[[0, 1], [2, 3]], collate_fn=unchanged, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error", [DataError("a.png: cut off"), SpecError(["one", "two"]), KeyError("x"), MemoryError("none left")]
)
def test_type_and_message_stay(error: Exception, workers: int) -> None:
    with pytest.raises(type(error)) as caught:
        load(error, workers)
    assert str(caught.value) == str(error)


def test_the_traceback_of_the_process_is_a_note() -> None:
    with pytest.raises(DataError) as caught:
        load(DataError("a.png: cut off"), 1)
    assert any("in __getitem__" in note for note in caught.value.__notes__)


def test_an_error_that_cannot_be_carried_is_its_line() -> None:
    with pytest.raises(OddError, match=r"^1 and 2$"):
        load(OddError(1, 2), 0)
    with pytest.raises(OneFormerError) as caught:
        load(OddError(1, 2), 1)
    assert str(caught.value) == "OddError: 1 and 2 (run again with --debug to see where)"


def test_batches_come_as_they_are_made() -> None:
    batches = Batches(range(5), sum)
    for workers in (0, 2):
        loader = Loader(batches, batch_sampler=[[0, 1], [3, 2], [4]], collate_fn=unchanged, num_workers=workers)
        assert list(loader) == [1, 5, 4]
