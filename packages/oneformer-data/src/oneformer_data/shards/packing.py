"""`oneformer dataset shard`: write a split of a spec as shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oneformer_data.opening.loading import read_label_map
from oneformer_data.opening.selection import split_sources
from oneformer_data.opening.sources import Source
from oneformer_data.shards.index import INDEX_NAME
from oneformer_data.shards.writing import write_shards
from oneformer_spec.errors import UsageError
from oneformer_spec.files.staging import staged
from oneformer_spec.schema import DatasetSection


@dataclass(frozen=True)
class Packed:
    """The shards written for a split: total images and shards, the number of classes, one index per data set."""

    split: str
    images: int
    shards: int
    classes: int
    indexes: Sequence[Path]


def pack(
    dataset: DatasetSection, split: str | None, target: Path, *, size: int, samples: int | None, seed: int | None
) -> Packed:
    """Write the data sets of a split as shards; several data sets get a subfolder each. See `write_shards`.

    The target folder appears at the end, complete.

    Raises:
        UsageError: The split is not set, is not named, or the target is not empty.
        SpecError: A data set cannot be opened.
        DataError: A data set is wrong, or the target cannot be written.
    """
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target}: is not empty; name another folder")
    every = split_sources(dataset)
    if split is None and len(every) > 1:
        raise UsageError(f"--split: name one of {', '.join(every)}")
    name = split or next(iter(every))
    if name not in every:
        raise UsageError(f"--split {name}: is not set; available: {', '.join(every)}")
    sources, labels = every[name], read_label_map(dataset)
    folders = [Path()] if len(sources) == 1 else [_folder(source) for source in sources]
    with staged(target, (), force=False) as stage:
        indexes = [
            write_shards(source, labels, stage / folder, size=size, samples=samples, seed=seed)
            for source, folder in zip(sources, folders, strict=True)
        ]
    return Packed(
        name,
        images=sum(map(len, indexes)),
        shards=sum(len(index.shards) for index in indexes),
        classes=len(labels),
        indexes=[target / folder / INDEX_NAME for folder in folders],
    )


def _folder(source: Source) -> Path:
    """Return the subfolder for one of several data sets."""
    if source.name in ("", ".", "..") or Path(source.name).name != source.name:
        raise UsageError(f"{source.section}.names: {source.name!r} is not a valid folder name")
    return Path(source.name)
