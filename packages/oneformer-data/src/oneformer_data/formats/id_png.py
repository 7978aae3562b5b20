"""PNG files that hold numbers: segment ids (R + 256 G + 65536 B, 0 = void) and class values."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pyspng
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from oneformer_spec.errors import DataError
from oneformer_spec.files.images import Content, content, opened

MAX_ID = 256**3 - 1
_HEADER = struct.Struct(">16sIIBB")  # signature and name of the first chunk, width, height, bits, kind of colour
_HEAD, _RGB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", (8, 2)
_SPREAD: dict[object, int] = {"L;2": 85, "L;4": 17}  # Pillow spreads gray of 2 and 4 bits over 0..255


def read_ids(path: str | Path | Content) -> NDArray[np.int32]:
    """Return the ids of a panoptic PNG, int32 (H, W).

    Colours count in palette files, too; in gray files the value is the id.

    Raises:
        DataError: The file is missing, damaged or no PNG.
    """
    packed = _usual(path)
    if packed is None:
        picture = _opened(path)
        if picture.mode in ("1", "L") or picture.mode.startswith("I"):
            return np.asarray(picture).astype(np.int32)
        packed = np.asarray(picture.convert("RGBA"))
    ids: NDArray[np.int32] = packed.view("<i4")[..., 0] & MAX_ID  # (H, W, 4) is one little-endian number per pixel
    return ids


def write_ids(path: str | Path, ids: NDArray[np.integer]) -> None:
    """Write ids (H, W), 0..2^24-1, as a panoptic PNG."""
    Path(path).write_bytes(ids_png(ids))


def ids_png(ids: NDArray[np.integer]) -> bytes:
    """Return the panoptic PNG of ids (H, W), 0..2^24-1."""
    return _png(np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8))


def classes_png(classes: NDArray[np.integer]) -> bytes:
    """Return the gray PNG of class values (H, W), 0..65535: of 8 bits where they suffice, else of 16."""
    return _png(classes.astype(np.uint8 if classes.max(initial=0) < 256 else np.uint16))


def read_classes(path: str | Path | Content) -> NDArray[np.int32]:
    """Return the values of a gray or palette PNG of any depth, int32 (H, W); a palette's colours do not count.

    Raises:
        DataError: The file is missing, damaged, or has colours instead of values.
    """
    picture = _opened(path)
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise DataError(f"{path}: has pixels of the kind {picture.mode}; class values need a gray or palette PNG")
    return np.asarray(picture).astype(np.int32)


def _usual(path: str | Path | Content) -> NDArray[np.uint8] | None:
    """Return the pixels (H, W, 4) of an RGB file, which panoptic PNGs usually are; None where Pillow has to see to it.

    libspng takes little more than half of Pillow's time.
    """
    try:
        data = content(path)
        head, width, height, bits, kind = _HEADER.unpack_from(data)
        if head != _HEAD or (bits, kind) != _RGB or width * height > (Image.MAX_IMAGE_PIXELS or MAX_ID):
            return None
        pixels: NDArray[np.uint8] = pyspng.load(data, format="RGBA")
    except Exception:  # whatever is wrong, Pillow tells
        return None
    return pixels


def _opened(path: str | Path | Content) -> Image.Image:
    try:
        with Image.open(opened(path), formats=["PNG"]) as picture:
            spread = _SPREAD.get(picture.tile[0].args) if picture.tile else None
            picture.load()
            return picture if spread is None else picture.point(lambda level: level // spread)
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a PNG file") from None
    except Exception as error:  # Pillow raises nearly every type on damaged bytes
        raise DataError(f"{path}: damaged PNG: {' '.join(str(error).split()) or type(error).__name__}") from None


def _png(pixels: NDArray[np.integer]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
