"""`oneformer dataset stats`: count the images, segments and pixels of each split and class."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oneformer_data.evaluation.report import aligned
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.loading import open_source, read_label_map
from oneformer_data.opening.selection import split_sources
from oneformer_data.sample import Sample
from oneformer_spec.commands.progress import Progress
from oneformer_spec.labels import Label, Labels
from oneformer_spec.schema import DatasetSection


@dataclass(frozen=True)
class Quantiles:
    """The minimum, 10th percentile, median, 90th percentile and maximum of some numbers."""

    min: float
    p10: float
    median: float
    p90: float
    max: float

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Quantiles | None:
        """Return the quantiles of numbers, with linear interpolation; None without numbers."""
        if not len(numbers):
            return None
        return cls(*np.quantile(np.asarray(numbers), [0, 0.1, 0.5, 0.9, 1]).tolist())


@dataclass(frozen=True)
class ClassStats:
    """Counts of one class in a split: the `images` that contain it, its `segments`, and how many of these are `crowds`.

    `area` covers the segments that are not crowds, in pixels. Overlapping segments each count all of their `pixels`.
    """

    id: int
    name: str
    isthing: bool
    images: int
    segments: int
    crowds: int
    pixels: int
    area: Quantiles | None


@dataclass(frozen=True)
class SplitStats:
    """Counts of a split: images, their pixels, void and overlapping pixels, image sizes in pixels, and classes."""

    images: int
    pixels: int
    void_pixels: int
    overlapping_pixels: int
    width: Quantiles | None
    height: Quantiles | None
    classes: tuple[ClassStats, ...]

    @property
    def segments(self) -> int:
        """The number of segments of all classes, crowds included."""
        return sum(row.segments for row in self.classes)

    @property
    def crowds(self) -> int:
        """The number of crowds of all classes."""
        return sum(row.crowds for row in self.classes)

    def document(self) -> dict[str, Any]:
        """Return the counts as plain JSON values, with shares of all pixels (0..1) added."""
        document = asdict(self)
        for row in document["classes"]:
            row["pixel_share"] = self.share(row["pixels"])
        shares = {"void_share": self.share(self.void_pixels)}
        return {"segments": self.segments, "crowds": self.crowds, **shares, **document}

    def share(self, pixels: int) -> float:
        """Return a number of pixels as a share (0..1) of all pixels of the split."""
        return pixels / self.pixels if self.pixels else 0.0


def stats(dataset: DatasetSection) -> dict[str, SplitStats]:
    """Return the counts of every split in the spec, by name; the data sets of a split are counted together.

    Raises:
        SpecError: No split is set, or the format of a split is not installed.
        DataError: The label map or the data is invalid; the first problem is reported.
    """
    splits = split_sources(dataset)
    labels = read_label_map(dataset)
    counts = {}
    for split, sources in splits.items():
        tally = Tally(labels)
        parts = [open_source(source, labels) for source in sources]
        progress, total = Progress(f"read dataset.{split}", "images"), sum(map(len, parts))
        for sample in (part[index] for part in parts for index in range(len(part))):
            tally.add(sample)
            progress(len(tally.widths), total)
        counts[split] = tally.result()
    return counts


class Tally:
    """Adds up the counts of samples."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.widths, self.heights = array("q"), array("q")
        self._void = self._overlapping = 0
        self._rows = [_ClassTally() for _ in labels]

    def add(self, sample: Sample) -> None:
        """Add the counts of one sample."""
        height, width = sample.size
        self.widths.append(width)
        self.heights.append(height)
        layers = (sample.id_maps > 0).sum(axis=0, dtype=np.int32)  # (H, W) segments on each pixel
        self._void += int((layers == 0).sum())
        self._overlapping += int((layers > 1).sum())
        areas = value_counts(sample.id_maps)
        for segment in sample.segments:
            row = self._rows[segment.class_index]
            (row.crowds if segment.is_crowd else row.areas).append(areas.get(segment.id, 0))
        for index in {segment.class_index for segment in sample.segments}:
            self._rows[index].images += 1

    def result(self) -> SplitStats:
        """Return the counts of all samples so far."""
        return SplitStats(
            images=len(self.widths),
            pixels=sum(width * height for width, height in zip(self.widths, self.heights, strict=True)),
            void_pixels=self._void,
            overlapping_pixels=self._overlapping,
            width=Quantiles.of(self.widths),
            height=Quantiles.of(self.heights),
            classes=tuple(row.result(label) for row, label in zip(self._rows, self.labels, strict=True)),
        )


class _ClassTally:
    """The number of images of a class, and the areas in pixels of its crowds and its other segments."""

    def __init__(self) -> None:
        self.images = 0
        self.areas, self.crowds = array("q"), array("q")

    def result(self, label: Label) -> ClassStats:
        return ClassStats(
            id=label.id,
            name=label.name,
            isthing=label.isthing,
            images=self.images,
            segments=len(self.areas) + len(self.crowds),
            crowds=len(self.crowds),
            pixels=_total((self.areas, self.crowds)),
            area=Quantiles.of(self.areas),
        )


def _total(lists: Iterable[Iterable[int]]) -> int:
    return sum(map(sum, lists))


def table(splits: Mapping[str, SplitStats]) -> str:
    """Return a text table of all splits, followed by a table of classes for each split."""
    head = ["split", "images", "segments", "crowds", "void %", "overlap %", "width", "height"]
    rows = [[name, *_split_cells(split)] for name, split in splits.items()]
    blocks = [aligned([head, *rows])]
    for name, split in splits.items():
        titles = [name, "kind", "images", "segments", "crowds", "pixels %", "area 10 %", "50 %", "90 %"]
        blocks.append(aligned([titles, *(_class_cells(row, split) for row in split.classes)]))
    return "\n\n".join(blocks)


def _split_cells(split: SplitStats) -> list[str]:
    shares = [percent(split.share(pixels)) for pixels in (split.void_pixels, split.overlapping_pixels)]
    return [
        str(split.images),
        str(split.segments),
        str(split.crowds),
        *shares,
        _range(split.width),
        _range(split.height),
    ]


def _class_cells(row: ClassStats, split: SplitStats) -> list[str]:
    areas = (
        ["-"] * 3 if row.area is None else [f"{value:.0f}" for value in (row.area.p10, row.area.median, row.area.p90)]
    )
    counts = [str(row.images), str(row.segments), str(row.crowds)]
    return [row.name, "thing" if row.isthing else "stuff", *counts, percent(split.share(row.pixels)), *areas]


def percent(share: float) -> str:
    """Format a share (0..1) as a percentage without the sign, with two decimals."""
    return f"{100 * share:.2f}"


def _range(sizes: Quantiles | None) -> str:
    if sizes is None:
        return "-"
    return f"{sizes.min:.0f}" if sizes.min == sizes.max else f"{sizes.min:.0f}..{sizes.max:.0f}"
