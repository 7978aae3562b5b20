"""What a model found in one image, at the image's original size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.tasks import Task


@dataclass(frozen=True)
class Segment:
    """One region: a class (semantic), an instance, or a panoptic segment.

    `bbox` is x, y, width, height in pixels and `area` counts pixels. `score` is 0..1, or None for semantic classes;
    stuff that several queries found has that of the surest. Instances carry their own `mask`, bool (H, W), because they
    may overlap.
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
    """One image's answer to one task.

    `map` is int32 (H, W), 0 = void: category ids where `holds_classes`, segment ids otherwise. None takes it from the
    task: the map of the semantic task holds classes. Instances are painted with the best score on top, and `segments`
    lists them by falling score.
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
    """Return x, y, width, height of a mask (H, W) in pixels; all 0 when it is empty."""
    y, height = _extent(np.any(mask, axis=1))
    x, width = _extent(np.any(mask[y : y + height], axis=0))
    return x, y, width, height


def bounding_boxes(numbers: NDArray[np.integer], count: int) -> list[tuple[int, int, int, int]]:
    """Return x, y, width, height of every number below `count` in a map (H, W); all 0 where it does not occur."""
    height, width = numbers.shape
    columns, rows = np.zeros((count, width), dtype=np.bool_), np.zeros((count, height), dtype=np.bool_)
    columns[numbers, np.arange(width)] = True
    rows[numbers, np.arange(height)[:, None]] = True
    extents = ((_extent(column), _extent(row)) for column, row in zip(columns, rows, strict=True))
    return [(x, y, box_width, box_height) for (x, box_width), (y, box_height) in extents]


def _extent(used: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the first position that is used, and how many lie from there to the last."""
    positions = np.flatnonzero(used)
    return (int(positions[0]), int(positions[-1] - positions[0]) + 1) if len(positions) else (0, 0)
