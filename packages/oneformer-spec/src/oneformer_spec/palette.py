"""A stable colour per number: the same id has the same colour in every run and on every host."""

from __future__ import annotations

import colorsys

_GOLDEN_RATIO = 0.618033988749895


def color(number: int) -> tuple[int, int, int]:
    """Return the RGB colour (0..255) of a number; neighbours differ clearly in hue."""
    hue = (number * _GOLDEN_RATIO) % 1.0
    saturation = (0.85, 0.6, 0.95)[number % 3]
    value = (0.95, 0.8, 0.65)[(number // 3) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
