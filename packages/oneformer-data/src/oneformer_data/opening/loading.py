"""Open the data that a spec names, through the readers that plugins declare."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

import numpy as np
from numpy.typing import NDArray

from oneformer_data.datasets import allowed_tasks, own_order, part_of
from oneformer_data.opening.categories import labels_of
from oneformer_data.opening.sources import Source, source_type, sources
from oneformer_data.sample import Sample
from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.annotation_formats import annotation_format
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.schema import DatasetSection, Spec
from oneformer_spec.tasks import TASKS, Task


class Concatenation(Sequence[Sample]):
    """Several data sets one after the other; sample names begin with the name of their data set."""

    def __init__(self, parts: Mapping[str, Sequence[Sample]]) -> None:
        self._names, self._parts = list(parts), list(parts.values())
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that at least one of the data sets has targets for."""
        every = {task for part in self._parts for task in allowed_tasks(part)}
        return tuple(task for task in TASKS if task in every)

    def tasks_at(self, index: int) -> tuple[Task, ...]:
        """Return the tasks that the data set of a sample has targets for."""
        return allowed_tasks(self._parts[bisect_right(self._ends, index)])

    def part_of(self, index: int) -> range:
        """Return the indices of the data set of a sample, or those that this names itself."""
        part = bisect_right(self._ends, index)
        start = self._ends[part] - len(self._parts[part])
        own = part_of(self._parts[part], index - start)
        return range(start + own.start, start + own.stop)

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return all indices in random order; what a data set gets of it follows the data set's own order, if any."""
        order = rng.permutation(len(self))
        for part, end in zip(self._parts, self._ends, strict=True):
            own, start = own_order(part, rng), end - len(part)
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
        position = range(len(self))[index]  # raises IndexError past the end, counts negative ones from it
        part = bisect_right(self._ends, position)
        sample = self._parts[part][position - self._ends[part] + len(self._parts[part])]
        return replace(sample, name=f"{self._names[part]}/{sample.name}")


def read_labels(spec: Spec) -> Labels:
    """Return the classes in the order of the network's outputs.

    Raises:
        SpecError: Nothing names them, or their number disagrees with `model.sem_seg_head.num_classes`.
        DataError: A file is wrong.
    """
    labels = read_label_map(spec.dataset)
    expected = spec.model.sem_seg_head.num_classes
    if len(labels) != expected:
        home = spec.dataset.label_map or "the annotation file"
        raise SpecError(f"model.sem_seg_head.num_classes: is {expected}, but {home} has {len(labels)} categories")
    return labels


def read_label_map(dataset: DatasetSection) -> Labels:
    """Return the classes of `dataset.label_map`, or of the first annotation file where it is not set.

    Without `contiguous_id` the class index is the category id - 1.
    """
    home = dataset.label_map
    if home:
        labels = Labels.read(home)
    else:
        first = _first_source(dataset)
        home, labels = first.annotations, labels_of(first)
    if dataset.contiguous_id:
        return labels
    ordered = sorted(labels, key=lambda label: label.id)
    if [label.id for label in ordered] != [*range(1, len(labels) + 1)]:
        raise SpecError(
            f"dataset.contiguous_id: false needs the category ids 1..{len(labels)} in {home}, "
            f"which has {_shortened([label.id for label in ordered])}"
        )
    return Labels(tuple(ordered))


def _first_source(dataset: DatasetSection) -> Source:
    for split in ("train", "val", "test"):
        if getattr(dataset, split).annotations:
            return sources(dataset, split)[0]
    raise SpecError("dataset.label_map: is not set, and no annotations that could name the classes")


def open_split(dataset: DatasetSection, split_name: str, labels: Labels) -> Sequence[Sample]:
    """Open `dataset.<split_name>`; several data sets become one sequence.

    Raises:
        SpecError: The split names no data, or no reader reads it.
        DataError: Annotations are wrong or files are missing.
    """
    return joined(open_parts(dataset, split_name, labels))


def joined(parts: Mapping[str, Sequence[Sample]]) -> Sequence[Sample]:
    """Return data sets by name as one sequence."""
    return next(iter(parts.values())) if len(parts) == 1 else Concatenation(parts)


def open_parts(dataset: DatasetSection, split_name: str, labels: Labels) -> dict[str, Sequence[Sample]]:
    """Open the data sets of `dataset.<split_name>` by name; see `open_split`."""
    return {source.name: open_source(source, labels) for source in sources(dataset, split_name)}


def open_source(source: Source, labels: Labels) -> Sequence[Sample]:
    """Open one data set with the reader of its type."""
    samples: Sequence[Sample] = resolve(reader(source, source_type(source)).target)(source, labels)
    return samples


def reader(source: Source, kind: str) -> Dataset:
    """Return the declaration of a type.

    Raises:
        SpecError: It is not installed.
    """
    return annotation_format(source.annotations, type=kind, panoptic=bool(source.panoptic), section=source.section)


def _shortened(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers[:8]) + (", …" if len(numbers) > 8 else "")
