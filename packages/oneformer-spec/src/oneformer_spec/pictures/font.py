"""The letters of pictures: DejaVu Sans, which lies beside this file, or the font file that ONEFORMER_FONT names.

The font is shipped so that pictures are the same on every host. Needs Pillow (the extra `images`).
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from oneformer_spec.errors import UsageError

FONT_VARIABLE = "ONEFORMER_FONT"
_OWN = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_NO_CHARACTER = "\U0010ffff"  # a code point that Unicode keeps free: fonts draw their mark for what they lack
_PROBE = 16  # pixels, the size at which letters are compared


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the letters of this size in pixels.

    Raises:
        UsageError: ONEFORMER_FONT names no font file.
    """
    return _font(os.environ.get(FONT_VARIABLE) or str(_OWN), size)


def can_write(text: str) -> bool:
    """Tell whether the font has every letter of a text."""
    return all(_has(font(_PROBE), letter) for letter in text)


def unwritable(names: tuple[str, ...]) -> str | None:
    """Return a note about the names that pictures cannot show, or None; it says what helps."""
    missing = [name for name in names if not can_write(name)]
    if not missing:
        return None
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"{font(_PROBE).getname()[0]} lacks letters of the class name {missing[0]!r}{more}; pictures show such a "
        f"class by its id. Set {FONT_VARIABLE} to a font file that has them"
    )


@lru_cache(maxsize=32)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {FONT_VARIABLE} must name a font file (TrueType, OpenType): {error}") from None


@lru_cache(maxsize=4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    return letter.isspace() or _drawn(font, letter) != _drawn(font, _NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
