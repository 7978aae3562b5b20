"""ADE20K as its scene parsing benchmark has it: gray PNGs, a pixel is a class 1..150, 0 is none of them.

The masks do not tell objects apart, so that all classes are stuff (Zhou et al., Scene Parsing through ADE20K, 2017).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from oneformer_data.convert.class_masks import Pair, check_values, known_labels, pairs, without_suffix
from oneformer_data.convert.conversion import Annotated
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.labels import Labels


def read(images: Path, masks: Path) -> Annotated:
    """Find pictures and masks.

    Raises:
        DataError: A folder is missing or holds no masks, or a mask has no picture.
    """
    labels = known_labels("ade20k")
    found = pairs(images, masks, image_key=without_suffix, mask_key=without_suffix)
    return Annotated(images, labels, [partial(load, pair, labels) for pair in found], (OutputFormat.SEMANTIC,))


def load(pair: Pair, labels: Labels) -> Sample:
    """Read a picture and its mask; each class that occurs is a segment.

    Raises:
        DataError: A file is damaged, the two differ in size, or the mask has another value than 0..150.
    """
    image = pair.read_image()
    classes = pair.read_mask(image.shape)
    counts = check_values(classes, lambda value: not value or value in labels.indices, pair.mask, "classes 0..150")
    segments = tuple(
        SegmentInfo(value, labels.indices[value], isthing=False, is_crowd=False) for value in sorted(counts) if value
    )
    return Sample(pair.image, pair.number, image, classes[None], segments)
