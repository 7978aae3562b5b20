"""Overlay pictures: the segments painted over the image, outlined, boxed and captioned, at the image's own size.

Training's sample pictures and inference's overlays are drawn here. Needs Pillow (the extra `images`).
"""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oneformer_spec.captions import Caption, draw_captions, place_captions
from oneformer_spec.labels import Labels
from oneformer_spec.results import Segment, Segmentation
from oneformer_spec.tasks import Task

Color = tuple[int, int, int]

FILL_ALPHA = 110  # 0..255, of a segment's inside; its outline is opaque
GOLDEN_RATIO = 0.618033988749895
HUE_SPREAD = 0.12  # in turns: how far an instance's hue may leave that of its class


def overlay(image: NDArray[np.uint8], segmentation: Segmentation, labels: Labels) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: classes in the label map's colours, instances in variants of them, with boxes and scores."""
    colors = segment_colors(segmentation, labels)
    picture = Image.fromarray(image).convert("RGBA")
    picture.alpha_composite(Image.fromarray(_layer(segmentation, colors)))
    draw = ImageDraw.Draw(picture)
    instances = _instances(segmentation)
    for segment in sorted(instances, key=lambda segment: -segment.area):
        x, y, width, height = segment.bbox
        draw.rectangle((x, y, x + width - 1, y + height - 1), outline=colors[segment.id], width=_line(image))
    scored = {segment.id for segment in instances}
    captions = [_caption(segment, colors[segment.id], scored=segment.id in scored) for segment in segmentation.segments]
    draw_captions(draw, place_captions(segmentation.map, captions))
    return np.asarray(picture.convert("RGB"))


def segment_colors(segmentation: Segmentation, labels: Labels) -> dict[int, Color]:
    """The colour of every segment by its id: the n-th segment of a class always has the class's n-th variant.

    Classes of the semantic task and stuff have one segment each, in the very colour of the label map.
    """
    seen: Counter[int] = Counter()
    colors: dict[int, Color] = {}
    for segment in segmentation.segments:
        label = labels[labels.indices[segment.category_id]]
        colors[segment.id] = variant(label.color, seen[label.id])
        seen[label.id] += 1
    return colors


def variant(color: Color, number: int) -> Color:
    """The ``number``-th colour of a family: 0 is ``color`` itself, the next ones spread around its hue."""
    if number == 0:
        return color
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    turn = (number * GOLDEN_RATIO + 0.5) % 1 - 0.5  # -0.5..0.5, neighbours far apart
    saturation = max(saturation, 0.5) * (1.0, 0.75, 0.9, 0.6)[number % 4]
    value = max(value, 0.6) * (1.0, 0.95, 0.75, 1.15)[number % 4]
    red, green, blue = colorsys.hsv_to_rgb((hue + 2 * HUE_SPREAD * turn) % 1, saturation, min(value, 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def _instances(segmentation: Segmentation) -> list[Segment]:
    """The segments that are single objects: things, unless the task only knows classes."""
    return [segment for segment in segmentation.segments if segment.isthing and segmentation.task is not Task.SEMANTIC]


def _layer(segmentation: Segmentation, colors: Mapping[int, Color]) -> NDArray[np.uint8]:
    """(H, W, 4) RGBA of the fills and outlines; void is transparent."""
    ids = segmentation.map
    table = np.zeros((int(ids.max(initial=0)) + 1, 4), dtype=np.uint8)
    for number, color in colors.items():
        if number < len(table):  # an instance that others hide is not in the map
            table[number] = (*color, FILL_ALPHA)
    table[0] = 0
    layer = table.view(np.uint32)[:, 0][ids]  # (H, W), one pixel each
    table[1:, 3] = np.where(table[1:, 3] > 0, 255, 0)
    edge = _outlines(ids)
    layer[edge] = table.view(np.uint32)[:, 0][ids[edge]]
    return layer.view(np.uint8).reshape(*ids.shape, 4)


def _outlines(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(H, W) the pixels whose segment differs from that of a neighbour."""
    edge = np.zeros(ids.shape, dtype=bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _line(image: NDArray[np.uint8]) -> int:
    """Pixels that a box's line is thick."""
    return 1 if min(image.shape[:2]) < 640 else 2


def _caption(segment: Segment, color: Color, *, scored: bool) -> Caption:
    score = f"{segment.score:.0%}" if scored and segment.score is not None else None
    return Caption(segment.id, segment.name, score, segment.isthing, segment.area, segment.bbox, color)
