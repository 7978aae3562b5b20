"""The data that a command looks at: the splits of a spec, or files named by options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from oneformer_data.opening.sources import Source, is_set, sources
from oneformer_spec.commands.exit import note
from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_spec.schema import DatasetSection, Split


def selected(
    files: Sequence[Path], overrides: Sequence[str], *, data: Split, label_map: str | None = None
) -> DatasetSection:
    """Return the section `dataset` of a spec; a `data` that is set stands for `dataset.val` and is then the only split.

    Raises:
        SpecError: The spec is wrong.
    """
    # Settings alone say nothing of a network, whose number of classes would have to be that of the label map.
    loaded = load_spec(files, overrides, task=None if files else "dataset")
    for line in loaded.notes:
        note(line)
    dataset = loaded.spec.dataset
    if is_set(data):
        dataset = replace(dataset, train=Split(), val=data, test=Split())
    return dataset if label_map is None else replace(dataset, label_map=label_map)


def split_sources(dataset: DatasetSection) -> dict[str, list[Source]]:
    """Return the data sets of every split that is set, by the split's name.

    Raises:
        SpecError: None is set.
    """
    values = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    names = [name for name, value in values.items() if isinstance(value, Split) and is_set(value)]
    if not names:
        raise SpecError("dataset: no split is set, so there is no data")
    return {name: sources(dataset, name) for name in names}
