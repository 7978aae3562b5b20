"""`oneformer validate --data`: every problem of the annotated data that a spec names, not only the first."""

from __future__ import annotations

from collections.abc import Iterator

from oneformer_data.loading import read_labels, reader
from oneformer_data.selection import split_sources
from oneformer_data.sources import Source, source_type
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels
from oneformer_spec.plugins import resolve
from oneformer_spec.schema import Spec


def problems(spec: Spec) -> Iterator[str]:
    """Yield a line per problem of every split that is set: file, item, what was found.

    Raises:
        SpecError: The spec names no data, no label map, or a type that no installed reader reads.
    """
    every = [source for split in split_sources(spec.dataset).values() for source in split]
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
