"""Data sets with one mask file per image: pairing the files, reading them, and the built-in label maps."""

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
    """A mask file and its image; `image` is the image's path relative to the folder `images`."""

    number: int
    mask: Path
    images: Path
    image: str

    def read_image(self) -> NDArray[np.uint8]:
        """Return the image, uint8 RGB (H, W, 3)."""
        return read_image(self.images / self.image)

    def read_mask(self, size: tuple[int, ...], path: Path | None = None) -> NDArray[np.int32]:
        """Return the values (H, W) of the mask, or of another mask file; it must have the image's size."""
        path = path or self.mask
        values = read_classes(path)
        for problem in size_problems(values, (size[0], size[1])):
            raise DataError(f"{path}: {problem} ({self.image})")
        return values


def pairs(
    images: Path, masks: Path, *, image_key: Callable[[str], str | None], mask_key: Callable[[str], str | None]
) -> list[Pair]:
    """Pair every mask file below a folder with the image that has the same key, sorted by key.

    The key functions get a file's path relative to its folder and return None for files to ignore. Images without a
    mask are left out.

    Raises:
        DataError: A folder does not exist or contains no masks, a mask has no image, or two files have the same key.
    """
    pictures, by_key = _by_key(images, image_key), _by_key(masks, mask_key)
    if not by_key:
        raise DataError(f"{masks}: contains no masks of that kind")
    missing = [key for key in by_key if key not in pictures]
    if missing:
        raise DataError(f"{masks / by_key[missing[0]]}: has no image below {images} ({len(missing)} masks have none)")
    return [
        Pair(number, masks / by_key[key], images, pictures[key]) for number, key in enumerate(sorted(by_key), start=1)
    ]


def without_suffix(name: str) -> str:
    """Return a file name without its suffix: the key of files that differ in the suffix alone."""
    return name.rpartition(".")[0]


def known_labels(name: str) -> Labels:
    """Return a label map that ships with this package."""
    path = files("oneformer_data") / "label_maps" / f"{name}.json"
    return Labels.parse(read_json(str(path)), source=str(path))


def check_values(values: NDArray[np.int32], known: Callable[[int], bool], path: Path, what: str) -> dict[int, int]:
    """Return the number of pixels of each value in a mask (H, W).

    Raises:
        DataError: The mask has unknown values; the message lists all of them.
    """
    counts = value_counts(values)
    unknown = ", ".join(_counted(value, pixels) for value, pixels in sorted(counts.items()) if not known(value))
    if unknown:
        raise DataError(f"{path}: {unknown}: expected {what}")
    return counts


def _counted(value: int, pixels: int) -> str:
    return f"value {value} ({pixels} pixels)"


def _by_key(folder: Path, key: Callable[[str], str | None]) -> dict[str, str]:
    by_key: dict[str, str] = {}
    for name in _names(folder):
        own = key(name)
        if own is None:
            continue
        if own in by_key:
            raise DataError(f"{folder}: {by_key[own]} and {name} cannot be told apart by their masks")
        by_key[own] = name
    return by_key


def _names(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in find_images(folder))
