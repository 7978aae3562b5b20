"""The font of captions: DejaVu Sans, which is part of this package, or the font file set in ONEFORMER_FONT.

The font is included so that pictures look the same on every host. Needs Pillow (the extra `images`).
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from oneformer_spec.errors import UsageError

FONT_VARIABLE = "ONEFORMER_FONT"
_OWN = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_NO_CHARACTER = "\U0010ffff"  # never assigned by Unicode, so fonts draw their symbol for missing characters
_PROBE = 16  # pixels, the font size at which letters are compared


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font at a size in pixels.

    Raises:
        UsageError: ONEFORMER_FONT is set but is not a font file.
    """
    return _font(os.environ.get(FONT_VARIABLE) or str(_OWN), size)


def can_write(text: str) -> bool:
    """Whether the font has every letter of a text."""
    return all(_has(font(_PROBE), letter) for letter in text)


def unwritable(names: tuple[str, ...]) -> str | None:
    """Return a note about class names with letters that the font lacks, or None if it has all letters."""
    missing = [name for name in names if not can_write(name)]
    if not missing:
        return None
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"{font(_PROBE).getname()[0]} lacks letters of the class name {missing[0]!r}{more}; pictures show the "
        f"class id instead. Set {FONT_VARIABLE} to a font file that has these letters"
    )


@lru_cache(maxsize=32)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {FONT_VARIABLE} must be a font file (TrueType or OpenType): {error}") from None


@lru_cache(maxsize=4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    return letter.isspace() or _drawn(font, letter) != _drawn(font, _NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
