"""Segmentation results: the segments of one image at its original size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.tasks import Task


@dataclass(frozen=True)
class Segment:
    """One region of an image: all pixels of a class (semantic), an instance, or a panoptic segment.

    `bbox` is x, y, width, height in pixels, and `area` is the number of pixels. `score` is 0..1, or None for semantic
    classes; a stuff segment merged from several queries has the best of their scores. Instances have their own `mask`,
    bool (H, W), because they may overlap.
    """

    id: int
    category_id: int
    name: str
    isthing: bool
    score: float | None
    area: int
    bbox: tuple[int, int, int, int]
    mask: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Segmentation:
    """The result of one task for one image.

    `map` is int32 (H, W), 0 is void: category ids if `holds_classes`, else segment ids. By default the map holds
    classes only for the semantic task. Where instances overlap, the map shows the one with the best score; `segments`
    lists instances by falling score.
    """

    task: str
    map: NDArray[np.int32] = field(repr=False, compare=False)
    segments: tuple[Segment, ...]
    holds_classes: bool | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Decide what the map holds where that was left open."""
        if self.holds_classes is None:
            object.__setattr__(self, "holds_classes", self.task == Task.SEMANTIC)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return x, y, width, height of a mask (H, W) in pixels; all 0 if the mask is empty.

    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    (1, 1, 2, 1)
    """
    y, height = _extent(np.any(mask, axis=1))
    x, width = _extent(np.any(mask[y : y + height], axis=0))
    return x, y, width, height


def bounding_boxes(numbers: NDArray[np.integer], count: int) -> list[tuple[int, int, int, int]]:
    """Return the bounding box of each number from 0 to `count` - 1 in a map (H, W); all 0 for absent numbers."""
    height, width = numbers.shape
    columns, rows = np.zeros((count, width), dtype=np.bool_), np.zeros((count, height), dtype=np.bool_)
    columns[numbers, np.arange(width)] = True
    rows[numbers, np.arange(height)[:, None]] = True
    extents = ((_extent(column), _extent(row)) for column, row in zip(columns, rows, strict=True))
    return [(x, y, box_width, box_height) for (x, box_width), (y, box_height) in extents]


def _extent(used: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first used position and the length of the range from there to the last."""
    positions = np.flatnonzero(used)
    return (int(positions[0]), int(positions[-1] - positions[0]) + 1) if len(positions) else (0, 0)
