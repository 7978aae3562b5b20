"""`oneformer validate --data`: every problem of the annotated data that a spec names, not only the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from oneformer_data.loading import read_labels, reader
from oneformer_data.sources import Source, is_set, source_type, sources
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.labels import Labels
from oneformer_spec.plugins import resolve
from oneformer_spec.schema import DatasetSection, Spec, Split


def problems(spec: Spec) -> Iterator[str]:
    """Yield a line per problem of every split that is set: file, item, what was found.

    Raises:
        SpecError: The spec names no data, no label map, or a type that no installed reader reads.
    """
    splits = _splits_that_are_set(spec.dataset)
    if not splits:
        raise SpecError("dataset: no split is set, so there is no data to check")
    every = [source for split in splits for source in sources(spec.dataset, split)]
    try:
        labels = read_labels(spec)
    except DataError as error:
        yield str(error)
        return
    for source in dict.fromkeys(every):
        yield from source_problems(source, labels)


def source_problems(source: Source, labels: Labels) -> Iterator[str]:
    """Yield the problems of one data set, through the check of its reader or by reading every sample."""
    try:
        found = reader(source, source_type(source))
        if found.check is not None:
            yield from resolve(found.check)(source, labels)
            return
        samples = resolve(found.target)(source, labels)
    except DataError as error:
        yield str(error)
        return
    for index in range(len(samples)):
        try:
            samples[index]
        except DataError as error:
            yield str(error)


def _splits_that_are_set(dataset: DatasetSection) -> list[str]:
    values = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    return [name for name, value in values.items() if isinstance(value, Split) and is_set(value)]
