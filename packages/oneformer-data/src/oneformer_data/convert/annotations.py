"""Convert from any annotation format that training reads, plugins' formats included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from oneformer_data.convert.conversion import Annotated
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.datasets import DataSet
from oneformer_data.opening.format import IMAGE, FileFormat
from oneformer_data.opening.loading import format_of, read_label_map
from oneformer_data.opening.sources import sources
from oneformer_spec.errors import UsageError
from oneformer_spec.labels import Labels
from oneformer_spec.schema import DatasetSection, Split


def read(split: Split, *, label_map: str | None, without: tuple[OutputFormat, ...] = ()) -> Annotated:
    """Open annotations for conversion into every format they have targets for, except those in `without`.

    Raises:
        SpecError: The classes are not known, or a path is not set.
        DataError: A file is wrong or missing.
        UsageError: The images are not files, or there is nothing that another format could hold.
    """
    dataset = DatasetSection(label_map=label_map or "", val=split)
    [source] = sources(dataset, "val")
    format = format_of(source)
    if not isinstance(format, FileFormat):
        raise UsageError(f"{source.annotations}: its images are not files, so nothing could refer to them")
    labels = read_label_map(dataset)
    samples = format.open(labels)
    formats = tuple(format for format in _possible_formats(samples, labels) if format not in without)
    if not formats:
        raise UsageError(f"{source.annotations}: has no targets that could be written in another format")
    loads = [partial(samples.__getitem__, index) for index in range(len(samples))]
    return Annotated(Path(format.folder(IMAGE).root), labels, loads, formats)


def _possible_formats(samples: DataSet, labels: Labels) -> Iterator[OutputFormat]:
    """Yield the formats for which samples have targets; instances need at least one thing class."""
    tasks = set(map(str, samples.tasks))
    for format in OutputFormat:
        if format.value in tasks and (format != OutputFormat.INSTANCE or any(label.isthing for label in labels)):
            yield format
