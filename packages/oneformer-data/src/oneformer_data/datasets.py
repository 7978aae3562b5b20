"""Data sets: sequences of samples that also report their tasks and how to mix and order their samples."""

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
    """Annotated images in a fixed order, each decoded when it is accessed.

    A subclass implements `__len__` and `__getitem__`. It overrides the other methods if its samples are not all alike.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks for which at least one sample has targets."""
        return TASKS

    def tasks_at(self, index: int) -> tuple[str, ...]:
        """Return the tasks for which this sample has targets."""
        return self.tasks

    def part_of(self, index: int) -> range:
        """Return the index range of samples that this one may be mixed with (by CutMix), itself included."""
        return range(len(self))

    def own_order(self, rng: np.random.Generator) -> NDArray[np.int64] | None:
        """Return all indices in a random order that is fast to read, or None if every order is equally fast."""
        return None


class Samples(DataSet, Generic[Record]):
    """A data set over a list of parsed records; each record is loaded when it is accessed."""

    def __init__(
        self, records: Sequence[Record], load: Callable[[Record], Sample], tasks: Sequence[str] = TASKS
    ) -> None:
        """Wrap parsed records; `load` decodes the image and the masks of one record."""
        self.records = records
        self.load = load
        self._tasks = tuple(tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks for which the annotations have targets."""
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
    """Several data sets joined end to end; each sample's name is prefixed with the name of its data set."""

    def __init__(self, parts: Mapping[str, Sequence[Sample]]) -> None:
        """Join data sets, given by name."""
        self._names, self._parts = list(parts), [data_set(part) for part in parts.values()]
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks for which at least one of the data sets has targets."""
        return in_order({task for part in self._parts for task in part.tasks})

    def tasks_at(self, index: int) -> tuple[str, ...]:
        """Return the tasks for which this sample has targets."""
        part, position = self._locate(index)
        return self._parts[part].tasks_at(position)

    def part_of(self, index: int) -> range:
        """Return the index range of the data set that a sample belongs to, or of the part of it (a shard, say)."""
        part, position = self._locate(index)
        own, start = self._parts[part].part_of(position), index - position
        return range(start + own.start, start + own.stop)

    def own_order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return all indices in random order; data sets that prefer an order of their own are visited in that order."""
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
        part, position = self._locate(range(len(self))[index])  # IndexError past the end; resolves negative indices
        sample = self._parts[part][position]
        return replace(sample, name=f"{self._names[part]}/{sample.name}")

    def _locate(self, index: int) -> tuple[int, int]:
        """Return which data set a sample belongs to, and its index within that data set."""
        part = bisect_right(self._ends, index)
        return part, index - self._ends[part] + len(self._parts[part])


def data_set(samples: Sequence[Sample]) -> DataSet:
    """Wrap samples as a `DataSet`; a plain sequence is assumed to have targets for every task."""
    return samples if isinstance(samples, DataSet) else Samples(samples, _same)


def allowed_tasks(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the tasks for which samples have targets; a plugin's task is included if the tasks it builds on are."""
    return with_plugin_tasks(data_set(samples).tasks)


def shuffled(samples: Sized, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all indices in random order; the data set chooses the order if it has a preferred one."""
    own = samples.own_order(rng) if isinstance(samples, DataSet) else None
    return rng.permutation(len(samples)) if own is None else own


def _same(sample: Sample) -> Sample:
    return sample
