"""A data set that reads its samples from shards."""

from __future__ import annotations

from bisect import bisect_right
from typing import overload

import numpy as np
from numpy.typing import NDArray

from oneformer_data.datasets import DataSet
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample
from oneformer_data.shards.decoding import decode, format_at
from oneformer_data.shards.index import WINDOW, Index
from oneformer_data.shards.members import Stored, sample_in
from oneformer_data.shards.store import Store
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels


class Shards(DataSet):
    """The samples of a set of shards, in order. No file stays open, so any process or thread may read."""

    def __init__(self, index: Index, store: Store, labels: Labels, source: Source) -> None:
        self.listing, self._store, self._labels, self._source = index, store, labels, source
        self._ends = index.ends
        self._tasks = format_at(index.type, source.annotations, source).tasks(labels)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks for which the samples' format has targets."""
        return self._tasks

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        return decode(self.stored(index), self._labels, self._source)

    def stored(self, index: int) -> Stored:
        """Return the undecoded files of a sample.

        Raises:
            DataError: The shard cannot be opened or downloaded, or contradicts its index.
        """
        position = range(len(self))[index]
        number = bisect_right(self._ends, position)
        shard = self.listing.shards[number]
        row = position - self._ends[number] + len(shard)
        begin, end = (int(offset) for offset in shard.offsets[row : row + 2])
        path = self._store.path(shard)
        with self._store.open(shard) as file:
            file.seek(begin)
            data = file.read(end - begin)
        if len(data) < end - begin:
            raise DataError(f"{path}: ends at byte {begin + len(data)}, its index has a sample up to {end}")
        return sample_in(data, path, self.listing.type)

    def part_of(self, index: int) -> range:
        """Return the index range of the shard that a sample belongs to."""
        number = bisect_right(self._ends, index)
        return range(self._ends[number] - len(self.listing.shards[number]), self._ends[number])

    def own_order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return all indices in a random order that needs only a few shards at a time.

        Shards are visited in random order; a sample comes at most `WINDOW` shards after the start of its own.
        """
        lengths = np.array([len(shard) for shard in self.listing.shards])
        visit = np.repeat(rng.permutation(len(lengths)), lengths)  # (N,)
        return np.argsort(visit + WINDOW * rng.random(len(visit)), kind="stable")
