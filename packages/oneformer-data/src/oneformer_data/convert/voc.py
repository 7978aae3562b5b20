"""Read Pascal VOC: palette PNGs of classes (0 background, 1..20, 255 void) and of objects (0 none, 1..254, 255 void).

The classes keep their numbers. Background is a labelled class and becomes number 21, because 0 means unlabelled here
(Everingham et al., The Pascal Visual Object Classes Challenge, 2010).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneformer_data.convert.class_masks import Pair, check_values, known_labels, pairs, without_suffix
from oneformer_data.convert.conversion import Annotated
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.metrics.run_counts import pair_counts
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.errors import DataError
from oneformer_spec.labels import Labels

BACKGROUND = 21  # our category id for it
VOID = 255
_BACKGROUND_SEGMENT = 255  # object ids are smaller


def read(images: Path, classes: Path, *, objects: Path | None, names: Path | None) -> Annotated:
    """Find the images and their masks: those in a list of names, one per line, or all.

    Without a folder of objects, only semantic annotations can be written.

    Raises:
        DataError: A folder is missing or contains no masks, a mask has no image, or a listed name has no mask.
    """
    labels = known_labels("voc")
    paired = pairs(images, classes, image_key=without_suffix, mask_key=without_suffix)
    if names is not None:
        paired = _listed(paired, classes, names)
    if objects is None:
        loads = [partial(load_classes, pair, labels) for pair in paired]
        return Annotated(images, labels, loads, (OutputFormat.SEMANTIC,))
    return Annotated(
        images, labels, [partial(load_objects, pair, labels, objects) for pair in paired], tuple(OutputFormat)
    )


def load_classes(pair: Pair, labels: Labels) -> Sample:
    """Read an image and its classes; each class that occurs becomes one segment.

    Raises:
        DataError: A file is damaged, the two differ in size, or the mask has a value that is not a class.
    """
    image = pair.read_image()
    classes = _classes(pair, image.shape)
    segments = tuple(_segment(value, value, labels) for value in np.unique(classes).tolist() if value)
    return Sample(pair.image, pair.number, image, classes[None], segments)


def load_objects(pair: Pair, labels: Labels, folder: Path) -> Sample:
    """Read an image, its classes and its objects; an object gets the class of most of its pixels.

    Raises:
        DataError: A file is damaged, their sizes differ, or an object covers background alone.
    """
    image = pair.read_image()
    classes = _classes(pair, image.shape)
    path = folder / pair.mask.name
    objects = pair.read_mask(image.shape, path)
    objects[(objects == VOID) | (classes == 0)] = 0
    majority: dict[int, tuple[int, int]] = {}
    for number, category, pixels in zip(*pair_counts(objects, classes), strict=True):
        if number and category not in (0, BACKGROUND):
            majority[int(number)] = max(majority.get(int(number), (0, 0)), (int(pixels), int(category)))
    lost = sorted(set(np.unique(objects).tolist()) - majority.keys() - {0})
    if lost:
        raise DataError(f"{path}: object {lost[0]} covers background alone ({pair.image})")
    ids = np.where((objects == 0) & (classes == BACKGROUND), np.int32(_BACKGROUND_SEGMENT), objects)
    segments = [_segment(number, category, labels) for number, (_, category) in sorted(majority.items())]
    if (ids == _BACKGROUND_SEGMENT).any():
        segments.append(_segment(_BACKGROUND_SEGMENT, BACKGROUND, labels))
    return Sample(pair.image, pair.number, image, ids[None], tuple(segments))


def _classes(pair: Pair, size: tuple[int, ...]) -> NDArray[np.int32]:
    """Return category ids (H, W), 0 for void."""
    values = pair.read_mask(size)
    check_values(values, lambda value: value < BACKGROUND or value == VOID, pair.mask, "classes 0..20, or 255 for void")
    table = np.arange(VOID + 1, dtype=np.int32)
    table[0], table[VOID] = BACKGROUND, 0
    return table[values]


def _segment(number: int, category: int, labels: Labels) -> SegmentInfo:
    index = labels.indices[category]
    return SegmentInfo(number, index, labels[index].isthing, is_crowd=False)


def _listed(paired: list[Pair], classes: Path, names: Path) -> list[Pair]:
    by_name = {pair.mask.stem: pair for pair in paired}
    try:
        wanted = dict.fromkeys(names.read_text(encoding="utf-8-sig").split())
    except FileNotFoundError:
        raise DataError(f"{names}: does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{names}: cannot be read: {error}") from None
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        what = f"{missing[0]} has no mask in {classes}" if missing else "contains no names"
        raise DataError(f"{names}: {what}")
    return [replace(by_name[name], number=number) for number, name in enumerate(wanted, start=1)]
