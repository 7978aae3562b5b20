"""From a split of the spec to the data sets that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.hooks import Dataset
from oneformer_spec.plugins.annotation_formats import annotation_format, annotation_formats
from oneformer_spec.schema import DatasetSection, Split

FIELDS = ("images", "annotations", "panoptic")


@dataclass(frozen=True)
class Source:
    """One data set of a split, with one path per field; `section` is its place in the spec, such as `dataset.val`.

    `annotations` is a file, or whatever else its format allows: a folder, a pattern, a URL. `type` names the format
    where the spec does. `serialized` asks for records in memory that all processes share. `name` tells the data sets of
    a split apart in reports, and `format_options` are `dataset.formats`, the options of formats by name.
    """

    section: str
    annotations: str
    images: str | None = None
    panoptic: str | None = None
    type: str | None = None
    allow_outside_root: bool = False
    serialized: bool = False
    name: str = field(default="", compare=False)
    format_options: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def split(self) -> str:
        """The name of the split, such as `val`."""
        return self.section.rpartition(".")[2]

    @property
    def declared(self) -> Dataset:
        """The declaration of the format that the annotations are in.

        Raises:
            SpecError: The spec names one that is not installed, or none, and the name of the annotations shows none.
        """
        return annotation_format(self.annotations, type=self.type, panoptic=bool(self.panoptic), section=self.section)

    def required(self, field_name: str) -> str:
        """Return a path that the data cannot do without.

        Raises:
            SpecError: It is not set.
        """
        path: str | None = getattr(self, field_name)
        if not path:
            raise SpecError(f"{self.section}.{field_name}: is not set; {self.annotations} needs it")
        return path


def is_set(split: Split) -> bool:
    """Return whether a split names any data."""
    return any(getattr(split, name) for name in FIELDS)


def sources(dataset: DatasetSection, split_name: str) -> list[Source]:
    """Return the data sets of a split: one, or as many as its lists have entries; a single path serves all of them.

    Raises:
        SpecError: The split names no annotations, two lists differ in length, or two data sets have one name.
    """
    split: Split = getattr(dataset, split_name)
    section = f"dataset.{split_name}"
    if not split.annotations:
        raise SpecError(f"{section}.annotations: is not set")
    columns = {name: _column(getattr(split, name)) for name in FIELDS}
    count = max(map(len, columns.values()))
    for name, paths in columns.items():
        if len(paths) not in (1, count):
            raise SpecError(f"{section}.{name}: has {len(paths)} entries where another list has {count}")
    images, annotations, panoptic = (paths * count if len(paths) == 1 else paths for paths in columns.values())
    names = _names(split, section, [path or "" for path in annotations])
    return [
        Source(
            section,
            annotations=annotations[i] or "",
            images=images[i],
            panoptic=panoptic[i],
            type=split.type,
            allow_outside_root=dataset.allow_outside_root,
            serialized=dataset.dataset_type == "serialized",
            name=names[i],
            format_options=dataset.formats,
        )
        for i in range(count)
    ]


def _column(value: str | tuple[str, ...] | None) -> tuple[str | None, ...]:
    return (value,) if value is None or isinstance(value, str) else tuple(value)


def _names(split: Split, section: str, annotations: list[str]) -> list[str]:
    """Return a name per data set: those of the spec, else the annotation files' own, numbered where that is not one."""
    if split.names is None:
        stems = [_stem(Path(path)) for path in annotations]
        return stems if len(set(stems)) == len(stems) else [f"{number}_{stem}" for number, stem in enumerate(stems)]
    names = [name or "" for name in _column(split.names)]
    if len(names) != len(annotations):
        raise SpecError(f"{section}.names: has {len(names)} entries for {len(annotations)} data sets")
    if len(set(names)) < len(names):
        raise SpecError(f"{section}.names: two data sets have one name: {', '.join(names)}")
    return names


def _stem(path: Path) -> str:
    """Return a name for a data set: its file's, or its folder's where every file of the format has the same name."""
    fixed = {name for declared in annotation_formats().values() for name in declared.names}
    return path.parent.name if path.name in fixed and path.parent.name else path.stem
