"""Draw overlay pictures: an image with its segments coloured, outlined, boxed and captioned, at its original size.

Used for the sample pictures of training and the overlays of inference. Needs Pillow (the extra `images`).
"""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oneformer_spec.labels import Labels
from oneformer_spec.pictures.captions import Caption, draw_captions, place_captions
from oneformer_spec.pictures.font import can_write
from oneformer_spec.results import Segment, Segmentation

Color = tuple[int, int, int]

FILL_ALPHA = 110  # 0..255, opacity of a segment's inside; its outline is opaque
GOLDEN_RATIO = 0.618033988749895
HUE_SPREAD = 0.12  # in turns: how far an instance's hue may differ from that of its class
COLORLESS = 0.1  # colours with less saturation count as grey; their instances differ in brightness


def overlay(image: NDArray[np.uint8], segmentation: Segmentation, labels: Labels) -> NDArray[np.uint8]:
    """Draw a segmentation over its RGB image (H, W, 3) and return the result, uint8 RGB (H, W, 3).

    Classes have the colours of the label map; instances have variants of them, boxes and scores.
    """
    colors = segment_colors(segmentation, labels)
    picture = Image.fromarray(image).convert("RGBA")
    picture.alpha_composite(Image.fromarray(_layer(segmentation, colors)))
    draw = ImageDraw.Draw(picture)
    instances = _instances(segmentation)
    for segment in reversed(instances):  # the box with the best score is drawn last, on top
        if _is_visible(segment, segmentation.map):
            _draw_box(draw, segment.bbox, colors[segment.id], _line(image.shape))
    scored = {segment.id for segment in instances}
    captions = [_caption(segment, colors[segment.id], scored=segment.id in scored) for segment in segmentation.segments]
    draw_captions(draw, place_captions(segmentation.map, captions))
    return np.asarray(picture.convert("RGB"))


def segment_colors(segmentation: Segmentation, labels: Labels) -> dict[int, Color]:
    """Return the colour of every segment by its id; the n-th segment of a class has the n-th variant of its colour.

    Semantic classes and stuff have only one segment each, so they have exactly the colour of the label map.
    """
    seen: Counter[int] = Counter()
    colors: dict[int, Color] = {}
    for segment in segmentation.segments:
        label = labels[labels.indices[segment.category_id]]
        colors[segment.id] = variant(label.color, seen[label.id])
        seen[label.id] += 1
    return colors


def variant(color: Color, number: int) -> Color:
    """Return the ``number``-th variant of a colour: 0 is ``color`` itself, others vary its hue (greys: brightness)."""
    if number == 0:
        return color
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    offset = number * GOLDEN_RATIO % 1  # consecutive numbers are far apart
    if saturation < COLORLESS:
        return _rgb(hue, saturation, (value + 0.1 + 0.8 * offset) % 1)  # differs from the class's own brightness
    turn = (offset + 0.5) % 1 - 0.5  # -0.5..0.5
    saturation = max(saturation, 0.5) * (1.0, 0.75, 0.9, 0.6)[number % 4]
    value = max(value, 0.35) * (1.0, 0.95, 0.75, 1.15)[number % 4]
    return _rgb((hue + 2 * HUE_SPREAD * turn) % 1, saturation, min(value, 1.0))


def _rgb(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _instances(segmentation: Segmentation) -> list[Segment]:
    """Return the segments that are single objects: things, unless the map holds classes."""
    return [segment for segment in segmentation.segments if segment.isthing and not segmentation.holds_classes]


def _is_visible(segment: Segment, ids: NDArray[np.int32]) -> bool:
    """Whether a segment has a pixel in the map (H, W) that no other segment hides."""
    x, y, width, height = segment.bbox
    return bool((ids[y : y + height, x : x + width] == segment.id).any())


def _layer(segmentation: Segmentation, colors: Mapping[int, Color]) -> NDArray[np.uint8]:
    """Return the fills and outlines as RGBA (H, W, 4); void is transparent."""
    ids = segmentation.map
    table = np.zeros((int(ids.max(initial=0)) + 1, 4), dtype=np.uint8)
    for number, color in colors.items():
        if number < len(table):  # an instance that is fully hidden is not in the map
            table[number] = (*color, FILL_ALPHA)
    table[0] = 0
    layer = table.view(np.uint32)[:, 0][ids]  # (H, W), one pixel each
    table[1:, 3] = np.where(table[1:, 3] > 0, 255, 0)
    edge = _outlines(ids, max(1, _line(ids.shape) // 2))
    layer[edge] = table.view(np.uint32)[:, 0][ids[edge]]
    return layer.view(np.uint8).reshape(*ids.shape, 4)


def _outlines(ids: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """Return where another segment is within ``width`` pixels along rows and columns, bool (H, W)."""
    edge = np.zeros(ids.shape, dtype=bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    for _ in range(width - 1):
        thin = edge.copy()
        edge[:, 1:] |= thin[:, :-1]
        edge[:, :-1] |= thin[:, 1:]
        edge[1:] |= thin[:-1]
        edge[:-1] |= thin[1:]
    return edge


def _draw_box(draw: ImageDraw.ImageDraw, bbox: tuple[int, int, int, int], color: Color, line: int) -> None:
    """Draw the outline of a box inside it; a box thinner than two lines is filled, or Pillow would draw beyond it."""
    left, top, width, height = bbox
    corners = left, top, left + width - 1, top + height - 1
    if min(width, height) <= 2 * line:
        draw.rectangle(corners, fill=color)
    else:
        draw.rectangle(corners, outline=color, width=line)


def _line(shape: tuple[int, ...]) -> int:
    """Return the thickness in pixels of box lines in an image of this shape (H, W, …)."""
    return 1 + min(shape[:2]) // 640


def _caption(segment: Segment, color: Color, *, scored: bool) -> Caption:
    score = f"{segment.score:.0%}" if scored and segment.score is not None else None
    name = segment.name if can_write(segment.name) else f"#{segment.category_id}"
    return Caption(segment.id, name, score, segment.isthing, segment.area, segment.bbox, color)
