"""The numbers of `oneformer dataset stats` as text."""

from __future__ import annotations

from collections.abc import Mapping

from oneformer_data.report import aligned
from oneformer_data.stats import ClassStats, Quantiles, SplitStats


def table(splits: Mapping[str, SplitStats]) -> str:
    """Return a row per split, then a table of classes per split."""
    head = ["split", "images", "segments", "crowds", "void %", "overlap %", "width", "height"]
    rows = [[name, *_split_cells(found)] for name, found in splits.items()]
    blocks = [aligned([head, *rows])]
    for name, found in splits.items():
        titles = [name, "kind", "images", "segments", "crowds", "pixels %", "area 10 %", "50 %", "90 %"]
        blocks.append(aligned([titles, *(_class_cells(row, found) for row in found.classes)]))
    return "\n\n".join(blocks)


def _split_cells(found: SplitStats) -> list[str]:
    shares = [percent(found.share(pixels)) for pixels in (found.void_pixels, found.overlapping_pixels)]
    return [
        str(found.images),
        str(found.segments),
        str(found.crowds),
        *shares,
        _range(found.width),
        _range(found.height),
    ]


def _class_cells(row: ClassStats, found: SplitStats) -> list[str]:
    areas = (
        ["-"] * 3 if row.area is None else [f"{value:.0f}" for value in (row.area.p10, row.area.median, row.area.p90)]
    )
    counts = [str(row.images), str(row.segments), str(row.crowds)]
    return [row.name, "thing" if row.isthing else "stuff", *counts, percent(found.share(row.pixels)), *areas]


def percent(share: float) -> str:
    """Write a share (0..1) as a percentage."""
    return f"{100 * share:.2f}"


def _range(sizes: Quantiles | None) -> str:
    if sizes is None:
        return "-"
    return f"{sizes.min:.0f}" if sizes.min == sizes.max else f"{sizes.min:.0f}..{sizes.max:.0f}"
