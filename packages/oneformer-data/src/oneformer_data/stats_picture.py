"""The class balance as a picture: bars in the classes' colours, one block per split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

from PIL import Image, ImageDraw

from oneformer_data.stats import SplitStats
from oneformer_data.stats_table import percent
from oneformer_spec.labels import Labels
from oneformer_spec.lettering import font

TEXT, ROW, MARGIN = 15, 24, 16  # pixels: letters, distance of rows, space around everything
BAR, NUMBER, LONGEST_NAME = 260, 90, 300  # pixels: the longest bar, room for its number, room for a name
INK, PALE, PAPER = (32, 32, 32), (150, 150, 150), (255, 255, 255)


def balance_png(splits: Mapping[str, SplitStats], labels: Labels) -> bytes:
    """Return a PNG file: per split and class the number of segments and the share of all pixels.

    The longest bar of a column is the split's largest value; the number beside a bar is exact.
    """
    names = min(max(_width(label.name) for label in labels), LONGEST_NAME) + MARGIN
    columns = [MARGIN + names, MARGIN + names + BAR + NUMBER]
    block = (len(labels) + 3) * ROW
    size = (columns[1] + BAR + NUMBER + MARGIN, 2 * MARGIN + block * len(splits))
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    for number, (name, found) in enumerate(splits.items()):
        _draw_split(draw, MARGIN + number * block, columns, name, found, labels)
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _draw_split(
    draw: ImageDraw.ImageDraw, top: int, columns: list[int], name: str, found: SplitStats, labels: Labels
) -> None:
    title = f"{name}: {found.images} images, {percent(found.share(found.void_pixels))} % void"
    _write(draw, MARGIN, top, title)
    _write(draw, columns[0], top + ROW, "segments")
    _write(draw, columns[1], top + ROW, "% of all pixels")
    for row, label in enumerate(labels):
        _write(draw, MARGIN, top + (row + 2) * ROW, _shortened(label.name))
    segments = [row.segments for row in found.classes]
    shares = [found.share(row.pixels) for row in found.classes]
    _draw_bars(draw, columns[0], top, segments, [str(number) for number in segments], labels)
    _draw_bars(draw, columns[1], top, shares, [percent(share) for share in shares], labels)


def _draw_bars(
    draw: ImageDraw.ImageDraw, left: int, top: int, numbers: Sequence[float], texts: Sequence[str], labels: Labels
) -> None:
    longest = max(numbers) or 1
    for row, (number, text, label) in enumerate(zip(numbers, texts, labels, strict=True)):
        y = top + (row + 2) * ROW
        length = round(BAR * number / longest)
        if length:
            draw.rectangle((left, y, left + length - 1, y + ROW - 5), fill=label.color, outline=PALE)
        _write(draw, left + length + 6, y, text, INK if number else PALE)


def _write(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, color: tuple[int, int, int] = INK) -> None:
    draw.text((x, y), text, fill=color, font=font(TEXT))


def _width(text: str) -> int:
    return round(font(TEXT).getlength(text))


def _shortened(name: str) -> str:
    """Return a name that fits its room, with an ellipsis where something is left out."""
    if _width(name) <= LONGEST_NAME:
        return name
    while _width(f"{name}…") > LONGEST_NAME:
        name = name[:-1]
    return f"{name}…"
