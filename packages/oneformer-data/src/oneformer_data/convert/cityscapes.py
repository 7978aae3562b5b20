"""Read Cityscapes: `<city>_<sequence>_<frame>_gtFine_instanceIds.png` for each `…_leftImg8bit.png`.

A pixel with label id c holds c * 1000 + n in the n-th object of a class with objects, and c otherwise. A group of
objects that was not separated also holds c and becomes a crowd. The 19 benchmark classes keep their label ids; every
other class is void (Cordts et al., The Cityscapes Dataset, 2016).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from oneformer_data.convert.class_masks import Pair, check_values, known_labels, pairs
from oneformer_data.convert.conversion import Annotated
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.files.images import find_images
from oneformer_spec.labels import Labels

NUM_LABELS = 34  # label ids 0..33, including those that the benchmark ignores
WITH_OBJECTS = range(24, 34)  # label ids of classes with objects
INSTANCES, CLASSES = "instanceIds", "labelIds"
_PICTURE = re.compile(r"(.+)_leftImg8bit\.\w+")
_MASK = re.compile(r"(.+)_gt(?:Fine|Coarse)_(instanceIds|labelIds)\.png")


def read(images: Path, masks: Path) -> Annotated:
    """Find the images and their masks; without `instanceIds` files, `labelIds` files give the classes alone.

    Raises:
        DataError: A folder is missing or contains no masks, or a mask has no image.
    """
    labels = known_labels("cityscapes")
    has_objects = any(_mask_key(path.name, INSTANCES) for path in find_images(masks))
    mask_key = partial(_mask_key, kind=INSTANCES if has_objects else CLASSES)
    found = pairs(images, masks, image_key=_picture_key, mask_key=mask_key)
    formats = tuple(OutputFormat) if has_objects else (OutputFormat.SEMANTIC,)
    return Annotated(images, labels, [partial(load, pair, labels) for pair in found], formats)


def load(pair: Pair, labels: Labels) -> Sample:
    """Read an image and its mask.

    Raises:
        DataError: A file is damaged, the two differ in size, or the mask has a value that is not a label.
    """
    image = pair.read_image()
    ids = pair.read_mask(image.shape)
    counts = check_values(ids, _is_known, pair.mask, "label ids 0..33, or a label id of 24..33 * 1000 + n")
    segments = []
    for value in sorted(counts):
        label_id = class_of(value)
        if label_id in labels.indices:
            index = labels.indices[label_id]
            is_crowd = labels[index].isthing and value < NUM_LABELS
            segments.append(SegmentInfo(value, index, labels[index].isthing, is_crowd))
    labelled = np.isin(ids, [segment.id for segment in segments])
    return Sample(pair.image, pair.number, image, np.where(labelled, ids, 0)[None], tuple(segments))


def class_of(value: int) -> int:
    """Return the label id that an instance id belongs to."""
    return value if value < NUM_LABELS else value // 1000


def _is_known(value: int) -> bool:
    return 0 <= value < NUM_LABELS or class_of(value) in WITH_OBJECTS


def _picture_key(name: str) -> str | None:
    match = _PICTURE.fullmatch(name)
    return match and match[1]


def _mask_key(name: str, kind: str) -> str | None:
    match = _MASK.fullmatch(name)
    return match[1] if match and match[2] == kind else None
