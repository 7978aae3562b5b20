"""Annotations that training reads as a source of conversions, in any format that is installed."""

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
    """Open annotations; what they suffice for, but for `without`, can be written.

    Raises:
        SpecError: Nothing names the classes, or a path is not set.
        DataError: A file is wrong or missing.
        UsageError: The pictures are not files, or the annotations suffice for nothing.
    """
    dataset = DatasetSection(label_map=label_map or "", val=split)
    [source] = sources(dataset, "val")
    format = format_of(source)
    if not isinstance(format, FileFormat):
        raise UsageError(f"{source.annotations}: its images are not files, which a conversion names")
    labels = read_label_map(dataset)
    samples = format.open(labels)
    formats = tuple(found for found in _suffices_for(samples, labels) if found not in without)
    if not formats:
        raise UsageError(f"{source.annotations}: has no targets that another format could hold")
    loads = [partial(samples.__getitem__, index) for index in range(len(samples))]
    return Annotated(Path(format.folder(IMAGE).root), labels, loads, formats)


def _suffices_for(samples: DataSet, labels: Labels) -> Iterator[OutputFormat]:
    """Yield the formats of the tasks that samples have targets for; instances are things."""
    tasks = set(map(str, samples.tasks))
    for format in OutputFormat:
        if format.value in tasks and (format != OutputFormat.INSTANCE or any(label.isthing for label in labels)):
            yield format
