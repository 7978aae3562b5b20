"""Rasterise LabelMe shapes: polygon, rectangle (two opposite corners), circle (centre and a point on its rim)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats import rle
from oneformer_data.formats.rle import Size

Point = tuple[float, float]
"""x and y in pixels; (0, 0) is the upper left corner of the image, (0.5, 0.5) the centre of its first pixel."""


def rasterise(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """Return the mask (H, W) of a shape, clipped at the image's borders.

    Raises:
        ValueError: The shape has an unknown type or invalid points, or covers no pixel.
    """
    kind = shape.get("shape_type", "polygon")  # missing in old files
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"is a {kind}, expected {', '.join(_KINDS)}")
    points = _points(shape.get("points"), size)
    allowed, fill = _KINDS[kind]
    if len(points) not in allowed:
        expected = "at least three" if kind == "polygon" else "two"
        raise ValueError(f"is a {kind} of {len(points)} points, expected {expected}")
    mask = fill(points, size)
    if not mask.any():
        raise ValueError("covers no pixel")
    return mask


def _polygon(points: list[Point], size: Size) -> NDArray[np.bool_]:
    """Fill a polygon with pycocotools, as COCO polygons are filled."""
    corners = [number for point in points for number in point]
    problem = rle.segmentation_problem([corners], size)
    if problem is not None:
        raise ValueError(f"cannot be filled: {problem}")
    return rle.draw((tuple(corners),), size)


def _rectangle(points: list[Point], size: Size) -> NDArray[np.bool_]:
    (x, y), (other_x, other_y) = points
    return _polygon([(x, y), (other_x, y), (other_x, other_y), (x, other_y)], size)


def _circle(points: list[Point], size: Size) -> NDArray[np.bool_]:
    """Fill the pixels whose centre lies in the circle."""
    (x, y), rim = points
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside: NDArray[np.bool_] = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= math.dist((x, y), rim) ** 2
    return inside


_KINDS: Mapping[str, tuple[range, Callable[[list[Point], Size], NDArray[np.bool_]]]] = {
    "polygon": (range(3, 2**31), _polygon),
    "rectangle": (range(2, 3), _rectangle),
    "circle": (range(2, 3), _circle),
}
"""Each kind's allowed number of points, and the function that fills it."""


def _points(value: object, size: Size) -> list[Point]:
    if not isinstance(value, list):
        raise ValueError("has no list of points")
    reach = 2 * max(size)
    points = []
    for point in value:
        if not isinstance(point, list) or len(point) != 2 or not all(_is_near(number, reach) for number in point):
            raise ValueError(f"has the point {point!r}, expected x and y near the image of {size[1]}x{size[0]}")
        points.append((float(point[0]), float(point[1])))
    return points


def _is_near(value: object, reach: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= reach  # False for NaN
