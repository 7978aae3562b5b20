"""Find image files in a folder, and decode them to RGB in the same way on every host.

Pillow is imported inside the functions because it is a dependency of the callers, not of this package.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oneformer_spec.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow's names of the formats that are decoded
WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})  # Pillow's names for 16-bit grey
ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class Content:
    """A file whose bytes are already in memory, such as a member of an archive; errors call it by its ``name``."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


def opened(file: Path | str | Content) -> Path | str | BytesIO:
    """Return what to pass to `PIL.Image.open`."""
    return BytesIO(file.data) if isinstance(file, Content) else file


def content(file: Path | str | Content) -> bytes:
    """Return the bytes of a file."""
    return file.data if isinstance(file, Content) else Path(file).read_bytes()


def find_images(folder: Path | str) -> list[Path]:
    """Return every image file below ``folder``, sorted.

    Image files are recognised by their suffix in any case. Hidden files and folders are left out; symbolic links to
    folders are followed, but each real folder is visited once.

    Raises:
        DataError: The folder does not exist or cannot be listed.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"{folder}: does not exist")
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder")
    return sorted(path for path in _walk(folder) if path.suffix.lower() in SUFFIXES and path.is_file())


def read_image(path: Path | str | Content) -> NDArray[np.uint8]:
    """Decode an image file to RGB, uint8 (H, W, 3), turned as its EXIF orientation says.

    Alpha is dropped; of 16-bit values the upper 8 bits are used.

    Raises:
        DataError: The file is missing, empty, truncated, not an image, or above Pillow's limit against decompression
            bombs; the message begins with the file.
    """
    if not isinstance(path, Content):
        path = Path(path)
    _check_file(path)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(opened(path), formats=FORMATS) as image:
            if 0 in image.size:
                raise ValueError(f"its size is {image.width}x{image.height}")
            pixels = _decode_plain_jpeg(image, path)
            if pixels is None:
                image.load()
                pixels = np.asarray(_rgb(_upright(image)), dtype=np.uint8)
    except MemoryError as error:
        raise DataError(f"{path}: too large for this machine's memory") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: is not an image in a supported format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: refused: {_one_line(error)}") from error
    except Exception as error:  # Pillow's decoders raise nearly every type of exception on damaged bytes
        raise DataError(f"{path}: damaged image: {_one_line(error)}") from error
    return np.ascontiguousarray(pixels)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder`` that are not hidden."""
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        fresh = {name: os.path.realpath(os.path.join(parent, name)) for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for name, real in fresh.items() if real not in seen]
        seen.update(fresh.values())
        yield from (Path(parent, name) for name in files if name[0] != ".")


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: {_one_line(error.strerror or error)}") from error


def _check_file(path: Path | Content) -> None:
    """Raise DataError unless ``path`` is a regular file that is not empty (reading a pipe could block forever)."""
    if isinstance(path, Content):
        if not path.data:
            raise DataError(f"{path}: the file is empty")
        return
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{path}: does not exist") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {_one_line(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: is not a regular file")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty")


def _decode_plain_jpeg(image: Image.Image, path: Path | Content) -> NDArray[np.uint8] | None:
    """Decode an upright colour JPEG with simplejpeg; return None for other images or if it is not installed.

    Both simplejpeg and Pillow use libjpeg-turbo and yield the same pixels; simplejpeg takes three quarters of the time.
    """
    if image.format != "JPEG" or image.mode != "RGB" or _orientation(image) != 1:
        return None
    try:
        from simplejpeg import decode_jpeg

        pixels: NDArray[np.uint8] = decode_jpeg(content(path))
    except Exception:  # not installed, or damaged: then Pillow's error says what is wrong
        return None
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says; an unreadable EXIF block is ignored."""
    from PIL import Image

    turns = (
        None,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
    turn = turns[_orientation(image) - 1]
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 (upright) if it is missing or invalid."""
    try:
        orientation = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata beside good pixels
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("float pixels have no fixed range; store 8 or 16 bits")
    if image.mode in WIDE_MODES:
        wide: NDArray[Any] = np.asarray(image)
        return Image.fromarray((np.clip(wide, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # a palette may have transparency, which converts without a warning only to RGBA
        return image.convert("RGBA").convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _one_line(error: object) -> str:
    """Return an error's message on one line, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
