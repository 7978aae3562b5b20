"""Place and draw the captions of segments, so that they stay readable and hide little of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from oneformer_spec.pictures.font import font

Color = tuple[int, int, int]

GRID = 256  # free space is searched on a grid of about this many cells per edge
ASPECT = 3  # width to height of a typical plate
MAX_COVER = 0.1  # share of the image that plates may cover, apart from the first plate of each class
MAX_HIDE = 0.25  # share of a plate that may lie on things
AMPLE, TIGHT = 0.7, 1.3  # plate size relative to free space: below AMPLE placed inside first, below TIGHT inside last
MAX_OVERHANG = 1.5  # a full text may be this many times as wide as its object's box; otherwise the short text is used


@dataclass(frozen=True)
class Caption:
    """The text for a segment (class ``name`` and, for single objects, ``score``) and what is needed to place it."""

    id: int
    name: str
    score: str | None
    isthing: bool
    area: int
    bbox: tuple[int, int, int, int]
    color: Color


@dataclass(frozen=True)
class Plate:
    """A text on a coloured box; ``box`` is left, top, right, bottom in pixels, right and bottom exclusive."""

    text: str
    box: tuple[int, int, int, int]
    color: Color
    size: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the box in an array (H, W)."""
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class Spot:
    """The point of a segment with most free space around it, and its distances to the segment's border, in pixels."""

    x: int
    y: int
    across: int
    down: int


def place_captions(ids: NDArray[np.int32], captions: Sequence[Caption]) -> list[Plate]:
    """Place plates for the segments of an id map (H, W), large segments first; segments without room get no plate.

    Plates do not overlap each other and hide few pixels of things; each class is named at least once if possible.
    """
    size = font_size(ids.shape)
    room = Room(ids)
    things = np.asarray([0, *sorted(caption.id for caption in captions if caption.isthing)])
    taken = np.zeros(ids.shape, dtype=bool)
    budget = MAX_COVER * ids.size
    named: set[str] = set()
    plates: list[Plate] = []
    one_kind = len({caption.name for caption in captions if caption.score is not None}) == 1
    for caption in sorted(captions, key=lambda caption: -caption.area):
        spot = room.spot(caption)
        if spot is None:
            continue
        first = caption.name not in named
        texts = _texts(caption, size, first=first, one_kind=one_kind)
        for plate, is_inside in _candidates(texts, caption, spot, ids.shape, size, first=first):
            area = ids[plate.window].size
            if taken[plate.window].any() or (not first and area > budget):
                continue
            if not is_inside and np.isin(ids[plate.window], things[1:]).sum() > MAX_HIDE * area:
                continue
            plates.append(plate)
            taken[plate.window] = True
            budget -= area
            named.add(caption.name)
            break
    return plates


def draw_captions(draw: ImageDraw.ImageDraw, plates: Sequence[Plate]) -> None:
    """Draw each plate in its segment's colour with black or white text."""
    for plate in plates:
        left, top, right, bottom = plate.box
        draw.rectangle((left, top, right - 1, bottom - 1), fill=plate.color)
        middle = (left + right) / 2, (top + bottom) / 2
        draw.text(middle, plate.text, fill=ink(plate.color), font=font(plate.size), anchor="mm")


def ink(color: Color) -> Color:
    """Return black or white, whichever contrasts more with ``color`` (by the relative luminance of WCAG 2.1)."""
    red, green, blue = (((channel / 255 + 0.055) / 1.055) ** 2.4 for channel in color)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else (255, 255, 255)


def font_size(shape: tuple[int, ...]) -> int:
    """Return the font size in pixels for an image of this shape (H, W, …)."""
    return int(np.clip(round(min(shape[:2]) / 45), 10, 96))


@lru_cache(maxsize=4096)
def plate_size(text: str, size: int) -> tuple[int, int]:
    """Return the width and height in pixels of a plate for ``text``."""
    return round(font(size).getlength(text)) + size // 2, round(size * 1.2)


class Room:
    """Measures the free space inside segments on a coarse grid over an id map (H, W)."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self.ids = ids
        self.step_x, self.step_y = (-(-edge // GRID) for edge in ids.shape[::-1])
        self.grid = np.ascontiguousarray(ids[:: self.step_y, :: self.step_x])
        self.across = _to_border(self.grid) * self.step_x  # pixels
        self.down = _to_border(np.ascontiguousarray(self.grid.T)).T * self.step_y
        wide = self.across / ASPECT
        self.room = np.minimum(wide, self.down) + 0.05 * np.maximum(wide, self.down)  # the last term finds the middle

    def spot(self, caption: Caption) -> Spot | None:
        """Return the point of a segment with most free space around it; None if the segment has no pixels."""
        x, y, width, height = caption.bbox
        top, left = -(-y // self.step_y), -(-x // self.step_x)
        window = (slice(top, -(-(y + height) // self.step_y)), slice(left, -(-(x + width) // self.step_x)))
        inside = np.where(self.grid[window] == caption.id, self.room[window], 0)
        if not inside.any():
            return self._between_cells(caption)
        row, column = divmod(int(inside.argmax()), inside.shape[1])
        row, column = row + top, column + left
        return Spot(column * self.step_x, row * self.step_y, int(self.across[row, column]), int(self.down[row, column]))

    def _between_cells(self, caption: Caption) -> Spot | None:
        """Return a pixel of a segment so small that the grid misses it."""
        x, y, width, height = caption.bbox
        rows, columns = np.nonzero(self.ids[y : y + height, x : x + width] == caption.id)
        middle = len(rows) // 2
        return Spot(x + int(columns[middle]), y + int(rows[middle]), across=1, down=1) if len(rows) else None


def _to_border(grid: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return for each cell (rows, columns) its distance to the nearer end of its run in its row; 1 at an end."""
    last = grid.shape[1] - 1
    position = np.arange(last + 1, dtype=np.int32)
    change = grid[:, 1:] != grid[:, :-1]
    start = np.zeros(grid.shape, dtype=np.int32)
    start[:, 1:] = np.maximum.accumulate(np.where(change, position[1:], np.int32(0)), axis=1)
    end = np.full(grid.shape, last, dtype=np.int32)
    ends = np.where(change, position[:-1], np.int32(last))[:, ::-1]
    end[:, :-1] = np.minimum.accumulate(ends, axis=1)[:, ::-1]
    return np.minimum(position - start, end - position) + 1


def _candidates(
    texts: Sequence[str], caption: Caption, spot: Spot, shape: tuple[int, ...], size: int, *, first: bool
) -> Iterator[tuple[Plate, bool]]:
    """Yield possible plates from best to worst, and whether each is placed inside its segment."""
    for text in texts:
        width, height = plate_size(text, size)
        if width > shape[1] or height > shape[0]:
            continue
        fill = max(width / (2 * spot.across), 2 * height / (2 * spot.down))  # plate size relative to the free space
        middle = spot.x - width // 2, spot.y - height // 2
        corners = [(corner, False) for corner in _beside(caption, spot, width, height)]
        if fill <= AMPLE:
            corners.insert(0, (middle, True))
        elif fill <= TIGHT or first:
            corners.append((middle, True))
        for (x, y), is_inside in corners:
            left, top = min(max(x, 0), shape[1] - width), min(max(y, 0), shape[0] - height)
            yield Plate(text, (left, top, left + width, top + height), caption.color, size), is_inside


def _texts(caption: Caption, size: int, *, first: bool, one_kind: bool) -> list[str]:
    """Return possible texts for a segment, the longest first; with objects of only one class, the score suffices."""
    if caption.score is None:
        return [caption.name]
    short = caption.score if one_kind else caption.name
    full = f"{caption.name}  {caption.score}"  # two spaces: small letters need them
    if first or plate_size(full, size)[0] <= MAX_OVERHANG * caption.bbox[2]:
        return [full, short]
    return [short]


def _beside(caption: Caption, spot: Spot, width: int, height: int) -> list[tuple[int, int]]:
    """Return top-left corners for plates around an object's box, or around the free space of a class."""
    if caption.score is None:
        left, top = spot.x - spot.across, spot.y - spot.down
        right, bottom = spot.x + spot.across, spot.y + spot.down
    else:
        left, top = caption.bbox[:2]
        right, bottom = left + caption.bbox[2], top + caption.bbox[3]
    centre = (top + bottom - height) // 2
    return [(left, top - height), (left, bottom), (right, centre), (left - width, centre)]
