"""Instance masks as COCO writes them: polygons, run lengths and compressed run lengths.

Nothing that a file claims is believed before it is checked: a mask has the size of its picture, run lengths end where
the picture ends, and polygons stay near it and are no longer than a filler can take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.opening.documents import is_integer

Size = tuple[int, int]
"""Height and width in pixels."""

Polygon = tuple[float, ...]
"""x and y of each corner in turn, in pixels."""

Segmentation = tuple[Polygon, ...] | str
"""Polygons whose union is the mask, or compressed run lengths for the size of the picture."""

LARGEST_SIDE = 65_500
"""Of a JPEG, in pixels; no decoder here makes larger pictures."""

_LONGEST_OUTLINE = 10_000_000  # pixels; pycocotools takes 40 bytes for each, and crashes where there is no memory


def segmentation_problem(value: object, size: Size) -> str | None:
    """Return what is wrong with a `segmentation` of a picture of that size, or None."""
    if isinstance(value, Mapping):
        return _runs_problem(value, size)
    if value == []:
        return "segmentation is an empty list; an object needs a mask, a box alone is not enough"
    if not isinstance(value, list):
        return "segmentation is neither a list of polygons nor run lengths"
    for number, polygon in enumerate(value):
        problem = _polygon_problem(polygon, size)
        if problem is not None:
            return f"polygon {number} {problem}"
    # The first bound is quick: no edge is longer than from one side of where corners may lie to the other.
    corners = sum(map(len, value)) // 2
    if 2 * corners * _reach(size) > _LONGEST_OUTLINE and (length := sum(map(_outline, value))) > _LONGEST_OUTLINE:
        return f"polygons have outlines of {length:.0f} pixels, expected at most {_LONGEST_OUTLINE}"
    return None


def read_segmentation(value: Any) -> Segmentation:
    """Return a segmentation, which must have no problem, in the form that a record keeps."""
    if isinstance(value, Mapping):
        counts = value["counts"]
        return counts if isinstance(counts, str) else compressed(counts)
    return tuple(tuple(map(float, polygon)) for polygon in value)


def draw(segmentation: Segmentation, size: Size) -> NDArray[np.bool_]:
    """Return the mask (H, W) of a segmentation; polygons are filled as pycocotools fills them.

    Raises:
        ValueError: Run lengths are damaged, or do not end with the picture.
    """
    runs = _runs(segmentation if isinstance(segmentation, str) else _filled(segmentation, size), size)
    height, width = size
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def encoded(segmentation: Segmentation, size: Size) -> str:
    """Return the mask of a segmentation as compressed run lengths that can be trusted.

    Raises:
        ValueError: Run lengths are damaged, or do not end with the picture.
    """
    if not isinstance(segmentation, str):
        return _filled(segmentation, size)
    _runs(segmentation, size)
    return segmentation


def run_lengths(text: str) -> NDArray[np.int64]:
    """Return the run lengths that COCO's text stands for.

    A number is written in groups of five bits, the lowest first, each group plus 48 as a character; bit 5 says that
    more groups follow. From the fourth number on it is the difference to the number two before.

    Raises:
        ValueError: The text is damaged.
    """
    groups = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(groups):
        return groups
    more = (groups & 32) != 0
    if groups.min() < 0 or groups.max() > 63 or more[-1]:
        raise ValueError("the compressed run lengths are damaged")
    ends = np.flatnonzero(~more)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits: no picture is that large
        raise ValueError("the compressed run lengths are damaged")
    shift = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((groups & 31) << shift, starts)
    numbers -= np.where(groups[ends] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def compressed(counts: Sequence[int]) -> str:
    """Return run lengths as COCO's text; see `run_lengths`."""
    text = []
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        while True:
            group, number = number & 31, number >> 5
            done = number == (-1 if group & 16 else 0)
            text.append(chr(48 + group + (0 if done else 32)))
            if done:
                break
    return "".join(text)


def _filled(polygons: Sequence[Polygon], size: Size) -> str:
    """Return the union of polygons as compressed run lengths."""
    from pycocotools import mask

    text: bytes = mask.merge(mask.frPyObjects([list(polygon) for polygon in polygons], *size))["counts"]
    return text.decode()


def _runs(text: str, size: Size) -> NDArray[np.int64]:
    """Return the run lengths of a picture's mask, which go down the columns and begin with the background."""
    runs, (height, width) = run_lengths(text), size
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the run lengths do not end with the picture of {width}x{height} pixels")
    return runs


def _runs_problem(value: Mapping[str, Any], size: Size) -> str | None:
    counts = value.get("counts")
    if value.get("size") != list(size):
        return f"the run lengths are of size {value.get('size')!r}, the image is {list(size)} (height, width)"
    if isinstance(counts, str):
        return None if counts.isascii() else "the compressed run lengths are damaged"
    if not isinstance(counts, list) or not all(is_integer(count) and count >= 0 for count in counts):
        return "the run lengths are neither text nor a list of whole numbers from 0 on"
    total = sum(counts)
    if total != size[0] * size[1]:
        return f"the run lengths cover {total} pixels, the image has {size[0] * size[1]}"
    return None


def _polygon_problem(polygon: object, size: Size) -> str | None:
    if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 6:
        found = f"{len(polygon)} numbers" if isinstance(polygon, list) else f"{polygon!r}"
        return f"has {found}, expected x and y of at least three corners"
    for number in polygon:
        if not (is_integer(number) or (isinstance(number, float) and math.isfinite(number))):
            return f"has the coordinate {number!r}, expected a number"
    reach = _reach(size)
    if max(polygon) > reach or min(polygon) < -reach:
        return f"reaches to {max(polygon, key=abs)}, far outside the image of {size[1]}x{size[0]} pixels"
    return None


def _reach(size: Size) -> int:
    """Return how far from 0 a coordinate may lie, in pixels."""
    return 2 * max(size)


def _outline(polygon: Sequence[float]) -> float:
    """Return the length of a polygon's outline in steps from pixel to pixel, diagonal ones included."""
    corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())
