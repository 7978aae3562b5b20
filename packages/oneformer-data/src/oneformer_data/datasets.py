"""Data sets: sequences of samples, with what training and evaluation ask of them beyond the samples."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import accumulate
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from oneformer_data.sample import Sample
from oneformer_spec.plugins.task_declarations import in_order, with_plugin_tasks
from oneformer_spec.tasks import TASKS

Record = TypeVar("Record")


class DataSet(Sequence[Sample]):
    """Annotated pictures in a fixed order, each decoded when it is asked for.

    A subclass has `__len__` and `__getitem__`, and overrides the rest where its samples differ from each other.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that at least one sample has targets for."""
        return TASKS

    def tasks_at(self, index: int) -> tuple[str, ...]:
        """Return the tasks that one sample has targets for."""
        return self.tasks

    def part_of(self, index: int) -> range:
        """Return the indices of the samples that one sample may be mixed with, itself included."""
        return range(len(self))

    def own_order(self, rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Return all indices in a random order that is quick to read, or None where any order is."""
        return None


class Samples(DataSet, Generic[Record]):
    """The samples of records that were parsed once, each loaded when it is asked for."""

    def __init__(
        self, records: Sequence[Record], load: Callable[[Record], Sample], tasks: Sequence[str] = TASKS
    ) -> None:
        """Make samples of records; `load` decodes pictures and masks."""
        self.records = records
        self.load = load
        self._tasks = tuple(tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the annotations have targets for."""
        return self._tasks

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


class Concatenation(DataSet):
    """Several data sets one after the other; sample names begin with the name of their data set."""

    def __init__(self, parts: Mapping[str, Sequence[Sample]]) -> None:
        """Join data sets by name."""
        self._names, self._parts = list(parts), [data_set(part) for part in parts.values()]
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that at least one of the data sets has targets for."""
        return in_order({task for part in self._parts for task in part.tasks})

    def tasks_at(self, index: int) -> tuple[str, ...]:
        """Return the tasks that the data set of a sample has targets for."""
        part, position = self._place(index)
        return self._parts[part].tasks_at(position)

    def part_of(self, index: int) -> range:
        """Return the indices of the data set of a sample, or of the part of it that the data set names itself."""
        part, position = self._place(index)
        own, start = self._parts[part].part_of(position), index - position
        return range(start + own.start, start + own.stop)

    def own_order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return all indices in random order; a data set with an order of its own keeps to it in its places."""
        order = rng.permutation(len(self))
        for part, end in zip(self._parts, self._ends, strict=True):
            own, start = part.own_order(rng), end - len(part)
            if own is not None:
                order[(start <= order) & (order < end)] = start + own
        return order

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        part, position = self._place(range(len(self))[index])  # IndexError past the end; negative ones count from it
        sample = self._parts[part][position]
        return replace(sample, name=f"{self._names[part]}/{sample.name}")

    def _place(self, index: int) -> tuple[int, int]:
        """Return the number of a sample's data set, and the sample's index in it."""
        part = bisect_right(self._ends, index)
        return part, index - self._ends[part] + len(self._parts[part])


def data_set(samples: Sequence[Sample]) -> DataSet:
    """Return samples as a data set; a plain sequence has targets for all tasks."""
    return samples if isinstance(samples, DataSet) else Samples(samples, _same)


def allowed_tasks(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the tasks that samples have targets for; those of plugins follow from the built-in ones that they need."""
    return with_plugin_tasks(data_set(samples).tasks)


def shuffled(samples: Sized, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all indices in random order, in the data set's own one where it has one."""
    own = samples.own_order(rng) if isinstance(samples, DataSet) else None
    return rng.permutation(len(samples)) if own is None else own


def _same(sample: Sample) -> Sample:
    return sample
