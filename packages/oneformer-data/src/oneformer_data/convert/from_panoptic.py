"""COCO panoptic annotations as a source: what they hold of things alone, or of classes alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from oneformer_data.convert.conversion import Annotated
from oneformer_data.convert.outputs import Format
from oneformer_data.opening.loading import open_source, read_label_map
from oneformer_data.opening.selection import split_sources
from oneformer_spec.schema import DatasetSection, Split


def read(annotations: str, images: str, *, panoptic: str, label_map: str | None) -> Annotated:
    """Open COCO panoptic annotations.

    Raises:
        SpecError: Nothing names the classes.
        DataError: A file is wrong or missing.
    """
    split = Split(type="coco_panoptic", images=images, annotations=annotations, panoptic=panoptic)
    dataset = DatasetSection(label_map=label_map or "", val=split)
    labels = read_label_map(dataset)
    samples = open_source(split_sources(dataset)["val"][0], labels)
    things = (Format.INSTANCE,) if any(label.isthing for label in labels) else ()
    loads = [partial(samples.__getitem__, index) for index in range(len(samples))]
    return Annotated(Path(images), labels, loads, (*things, Format.SEMANTIC))
