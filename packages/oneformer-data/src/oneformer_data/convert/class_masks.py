"""Data sets of a mask file per picture: which belong together, and the classes that the project knows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.coco_panoptic import size_problems
from oneformer_data.formats.id_png import read_classes
from oneformer_data.metrics.run_counts import value_counts
from oneformer_data.opening.documents import read_json
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import find_images, read_image
from oneformer_spec.labels import Labels


@dataclass(frozen=True)
class Pair:
    """A mask file and its picture: `image` is the picture's path below the folder of pictures."""

    number: int
    mask: Path
    images: Path
    image: str

    def read_image(self) -> NDArray[np.uint8]:
        """Return the picture, RGB (H, W, 3)."""
        return read_image(self.images / self.image)

    def read_mask(self, size: tuple[int, ...], path: Path | None = None) -> NDArray[np.int32]:
        """Return the values of the mask, or of another file, (H, W); they must be of the picture's size."""
        path = path or self.mask
        values = read_classes(path)
        for problem in size_problems(values, (size[0], size[1])):
            raise DataError(f"{path}: {problem} ({self.image})")
        return values


def pairs(
    images: Path, masks: Path, *, image_key: Callable[[str], str | None], mask_key: Callable[[str], str | None]
) -> list[Pair]:
    """Return the mask files below a folder with the pictures of the same key, sorted by key.

    A key is made of a file's path below its folder; None leaves the file out. A picture without a mask is left out.

    Raises:
        DataError: A folder does not exist, holds no mask, a mask has no picture, or two files have one key.
    """
    pictures, found = _by_key(images, image_key), _by_key(masks, mask_key)
    if not found:
        raise DataError(f"{masks}: holds no masks of that kind")
    missing = [key for key in found if key not in pictures]
    if missing:
        raise DataError(f"{masks / found[missing[0]]}: has no picture below {images} ({len(missing)} masks have none)")
    return [
        Pair(number, masks / found[key], images, pictures[key]) for number, key in enumerate(sorted(found), start=1)
    ]


def without_suffix(name: str) -> str:
    """Return the key of files that are called alike but for their suffix."""
    return name.rpartition(".")[0]


def known_labels(name: str) -> Labels:
    """Return a label map that comes with this package."""
    path = files("oneformer_data") / "label_maps" / f"{name}.json"
    return Labels.parse(read_json(str(path)), source=str(path))


def check_values(values: NDArray[np.int32], known: Callable[[int], bool], path: Path, what: str) -> dict[int, int]:
    """Return the pixels per value of a mask (H, W).

    Raises:
        DataError: A value is not known; the message has them all.
    """
    counts = value_counts(values)
    unknown = ", ".join(_counted(value, pixels) for value, pixels in sorted(counts.items()) if not known(value))
    if unknown:
        raise DataError(f"{path}: {unknown}: expected {what}")
    return counts


def _counted(value: int, pixels: int) -> str:
    return f"value {value} ({pixels} pixels)"


def _by_key(folder: Path, key: Callable[[str], str | None]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _names(folder):
        own = key(name)
        if own is None:
            continue
        if own in found:
            raise DataError(f"{folder}: {found[own]} and {name} cannot be told apart by their masks")
        found[own] = name
    return found


def _names(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in find_images(folder))
