"""A data set as most readers make it: records that were parsed once, each turned into a sample when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from oneformer_data.sample import Sample
from oneformer_spec.tasks import TASKS, Task

Record = TypeVar("Record")


class Samples(Sequence[Sample], Generic[Record]):
    """The samples of one data set in the order of its annotations.

    `tasks` are those that the annotations allow.
    """

    def __init__(
        self, records: Sequence[Record], load: Callable[[Record], Sample], tasks: Sequence[Task] = TASKS
    ) -> None:
        """Make samples of records; `load` decodes pictures and masks."""
        self.records = records
        self.load = load
        self.tasks = tuple(tasks)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples[Record]: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples[Record]:
        if isinstance(index, slice):
            return Samples(self.records[index], self.load, self.tasks)
        return self.load(self.records[index])


def allowed_tasks(samples: Sequence[Sample]) -> tuple[Task, ...]:
    """Return the tasks that a data set has targets for: its attribute `tasks`, all where it has none."""
    tasks: tuple[Task, ...] = getattr(samples, "tasks", TASKS)
    return tasks


def tasks_at(samples: Sequence[Sample], index: int) -> tuple[Task, ...]:
    """Return the tasks that one sample has targets for; in joined data sets they differ from part to part."""
    by_index: Callable[[int], tuple[Task, ...]] | None = getattr(samples, "tasks_at", None)
    return by_index(index) if by_index is not None else allowed_tasks(samples)


def part_of(samples: Sequence[Sample], index: int) -> range:
    """Return the indices among which a sample has company of its kind: all, but in joined data sets and in shards."""
    by_index: Callable[[int], range] | None = getattr(samples, "part_of", None)
    return by_index(index) if by_index is not None else range(len(samples))


def shuffled(samples: Sized, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all indices in random order, in their own one where they have it."""
    own = own_order(samples, rng)
    return rng.permutation(len(samples)) if own is None else own


def own_order(samples: Sized, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Return all indices in the random order of samples that are slow to reach in any order; None for all others."""
    by_place: Callable[[np.random.Generator], NDArray[np.int64]] | None = getattr(samples, "shuffled", None)
    return by_place(rng) if by_place is not None else None
