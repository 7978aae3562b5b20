"""Read ADE20K in the layout of its scene parsing benchmark: gray PNGs of classes 1..150, 0 is unlabelled.

The masks do not separate objects, so all classes are stuff (Zhou et al., Scene Parsing through ADE20K, 2017).
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
    """Find the images and their masks.

    Raises:
        DataError: A folder is missing or contains no masks, or a mask has no image.
    """
    labels = known_labels("ade20k")
    found = pairs(images, masks, image_key=without_suffix, mask_key=without_suffix)
    return Annotated(images, labels, [partial(load, pair, labels) for pair in found], (OutputFormat.SEMANTIC,))


def load(pair: Pair, labels: Labels) -> Sample:
    """Read an image and its mask; each class that occurs becomes one segment.

    Raises:
        DataError: A file is damaged, the two differ in size, or the mask has a value outside 0..150.
    """
    image = pair.read_image()
    classes = pair.read_mask(image.shape)
    counts = check_values(classes, lambda value: not value or value in labels.indices, pair.mask, "classes 0..150")
    segments = tuple(
        SegmentInfo(value, labels.indices[value], isthing=False, is_crowd=False) for value in sorted(counts) if value
    )
    return Sample(pair.image, pair.number, image, classes[None], segments)
