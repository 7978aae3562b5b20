"""From a split of the spec to the data sets that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.schema import DatasetSection, Split

FIELDS = ("images", "annotations", "panoptic")


@dataclass(frozen=True)
class Source:
    """One data set of a split, with one path per field; `section` is its place in the spec, such as `dataset.val`."""

    section: str
    annotations: str
    images: str | None = None
    panoptic: str | None = None
    type: str | None = None
    allow_outside_root: bool = False

    def required(self, field: str) -> str:
        """Return a path that the data cannot do without.

        Raises:
            SpecError: It is not set.
        """
        path: str | None = getattr(self, field)
        if not path:
            raise SpecError(f"{self.section}.{field}: is not set; {self.annotations} needs it")
        return path


def is_set(split: Split) -> bool:
    """Return whether a split names any data."""
    return any(getattr(split, field) for field in FIELDS)


def sources(dataset: DatasetSection, split_name: str) -> list[Source]:
    """Return the data sets of a split: one, or as many as its lists have entries; a single path serves all of them.

    Raises:
        SpecError: The split names no annotations, or two lists differ in length.
    """
    split: Split = getattr(dataset, split_name)
    section = f"dataset.{split_name}"
    if not split.annotations:
        raise SpecError(f"{section}.annotations: is not set")
    columns: dict[str, tuple[str | None, ...]] = {}
    for field in FIELDS:
        value = getattr(split, field)
        columns[field] = (value,) if value is None or isinstance(value, str) else tuple(value)
    count = max(map(len, columns.values()))
    for field, paths in columns.items():
        if len(paths) not in (1, count):
            raise SpecError(f"{section}.{field}: has {len(paths)} entries where another list has {count}")
    images, annotations, panoptic = (paths * count if len(paths) == 1 else paths for paths in columns.values())
    return [
        Source(section, annotations[i] or "", images[i], panoptic[i], split.type, dataset.allow_outside_root)
        for i in range(count)
    ]


def source_type(source: Source) -> str:
    """Return the reader of a data set: the one that the spec names, or what its paths tell.

    Raises:
        SpecError: The file does not tell.
        DataError: The file does not exist.
    """
    if source.type is not None:
        return source.type
    if not Path(source.annotations).exists():
        raise DataError(f"{source.annotations}: does not exist ({source.section}.annotations)")
    if source.panoptic:
        return "coco_panoptic"
    hint = f"for COCO panoptic data set {source.section}.panoptic"
    raise SpecError(f"{source.section}.type: cannot be told from {source.annotations}; {hint}")
