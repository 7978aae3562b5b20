"""Open the data that a spec names, each data set in its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from oneformer_data.datasets import Concatenation, DataSet
from oneformer_data.opening.format import Format
from oneformer_data.opening.sources import Source, sources
from oneformer_spec.errors import DataError, PluginError, SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.entries import keywords, naming_plugin
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.schema import DatasetSection, Spec


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
        home, labels = first.annotations, format_of(first).labels()
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


def open_split(dataset: DatasetSection, split_name: str, labels: Labels) -> DataSet:
    """Open `dataset.<split_name>`; several data sets become one sequence.

    Raises:
        SpecError: The split names no data, or no reader reads it.
        DataError: Annotations are wrong or files are missing.
    """
    return joined(open_parts(dataset, split_name, labels))


def joined(parts: Mapping[str, DataSet]) -> DataSet:
    """Return data sets by name as one sequence."""
    return next(iter(parts.values())) if len(parts) == 1 else Concatenation(parts)


def open_parts(dataset: DatasetSection, split_name: str, labels: Labels) -> dict[str, DataSet]:
    """Open the data sets of `dataset.<split_name>` by name; see `open_split`."""
    return {source.name: open_source(source, labels) for source in sources(dataset, split_name)}


def open_source(source: Source, labels: Labels) -> DataSet:
    """Open one data set; see `Format.open`."""
    return format_of(source).open(labels)


def format_of(source: Source) -> Format:
    """Return the annotations of a data set in their format; nothing is read yet.

    Raises:
        SpecError: Nothing names the format.
        PluginError: The format cannot be loaded.
        DataError: The annotations must be a file, and there is none.
    """
    declared = source.declared
    if declared.places == ("file",) and not Path(source.annotations).exists():
        raise DataError(f"{source.annotations}: does not exist ({source.section}.annotations)")
    return made(format_class(declared), declared.name, source)


def made(kind: type[Format], name: str, source: Source) -> Format:
    """Return the annotations of a data set in a format, which gets its options as keywords.

    Raises:
        PluginError: The format takes other options, or fails.
    """
    options = source.format_options.get(name)
    with naming_plugin("dataset", name):
        return kind(source, **({} if options is None else keywords(options)))


def format_class(declared: Dataset) -> type[Format]:
    """Return the class of a declared format.

    Raises:
        PluginError: It cannot be loaded, or is something else.
    """
    with naming_plugin("dataset", declared.name):
        found = resolve(declared.target)
    if not (isinstance(found, type) and issubclass(found, Format)):
        raise PluginError(f"{declared.target}: the format {declared.name!r} is not a subclass of oneformer_data.Format")
    return found


def _shortened(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers[:8]) + (", …" if len(numbers) > 8 else "")
