"""Write COCO panoptic, COCO instance, and semantic masks with a JSONL file.

An output writes the PNG of each sample as it is added, and the JSON or JSONL file at the end.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from oneformer_data.formats.id_png import classes_png, ids_png
from oneformer_data.formats.layers import flat_ids, masks
from oneformer_data.sample import Sample
from oneformer_spec.errors import DataError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.labels import Labels


class OutputFormat(StrEnum):
    """A format that a conversion can write."""

    PANOPTIC = "panoptic"
    INSTANCE = "instance"
    SEMANTIC = "semantic"


FILES = {
    OutputFormat.PANOPTIC: ("panoptic.json", "panoptic"),
    OutputFormat.INSTANCE: ("instances.json",),
    OutputFormat.SEMANTIC: ("semantic.jsonl", "semantic"),
}
"""The JSON or JSONL file of each format, and its folder of PNG files."""


@dataclass(frozen=True)
class Destination:
    """The folder being written (`folder`), the path it is moved to at the end (`target`), and the image folder."""

    folder: Path
    target: Path
    images: Path


class Output(Protocol):
    """Writes the annotations of samples in one format."""

    def add(self, sample: Sample) -> None:
        """Write or collect the annotations of one sample."""

    def finish(self) -> None:
        """Write the JSON or JSONL file, after the last sample."""

    def settings(self) -> dict[str, str]:
        """Return the `dataset.<split>` settings that read the result."""


class PanopticOutput:
    """COCO panoptic. Where segments overlap, the smaller one is on top; a fully covered one is left out."""

    def __init__(self, destination: Destination, labels: Labels) -> None:
        self._destination = destination
        self._labels = labels
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, sample: Sample) -> None:
        """Write the PNG of a sample."""
        ids, name = flat_ids(sample), png_name(sample.name)
        write_atomically(self._destination.folder / "panoptic" / name, ids_png(ids))
        rows = []
        for segment in sample.segments:
            mask = ids == segment.id
            if mask.any():
                category = {"category_id": self._labels[segment.class_index].id, "iscrowd": int(segment.is_crowd)}
                rows.append({"id": segment.id, **category, "area": int(mask.sum()), "bbox": bounding_box(mask)})
        self._images.append(image_row(sample))
        self._annotations.append({"image_id": sample.image_id, "file_name": name, "segments_info": rows})

    def finish(self) -> None:
        """Write the JSON."""
        document = {"images": self._images, "annotations": self._annotations, "categories": self._labels.rows()}
        write_atomically(self._destination.folder / "panoptic.json", json.dumps(document))

    def settings(self) -> dict[str, str]:
        """Return the settings of a split that reads the result."""
        target = self._destination.target
        files = {"annotations": f"{target / 'panoptic.json'}", "panoptic": f"{target / 'panoptic'}"}
        return {"images": f"{self._destination.images}", **files}


class InstanceOutput:
    """COCO instance: things only, run-length encoded, ids from 1. Overlapping objects keep all their pixels."""

    def __init__(self, destination: Destination, labels: Labels) -> None:
        self._destination = destination
        self._labels = labels
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, sample: Sample) -> None:
        """Encode the masks of a sample."""
        self._images.append(image_row(sample))
        for segment, mask in masks(sample, [segment for segment in sample.segments if segment.isthing]):
            row = {
                "id": len(self._annotations) + 1,
                "image_id": sample.image_id,
                "category_id": self._labels[segment.class_index].id,
                "iscrowd": int(segment.is_crowd),
                "area": int(mask.sum()),
                "bbox": bounding_box(mask),
                "segmentation": run_lengths(mask),
            }
            self._annotations.append(row)

    def finish(self) -> None:
        """Write the JSON."""
        things = [row for row in self._labels.rows() if row["isthing"]]
        document = {"images": self._images, "annotations": self._annotations, "categories": things}
        write_atomically(self._destination.folder / "instances.json", json.dumps(document))

    def settings(self) -> dict[str, str]:
        """Return the settings of a split that reads the result."""
        return {
            "images": f"{self._destination.images}",
            "annotations": f"{self._destination.target / 'instances.json'}",
        }


class SemanticOutput:
    """Semantic masks, pixel = category id, with paths relative to a common parent of images and masks.

    Crowds keep their category.

    Raises:
        DataError: A category id does not fit into 16 bits.
    """

    def __init__(self, destination: Destination, labels: Labels) -> None:
        largest = max(label.id for label in labels)
        if largest > 65535:
            raise DataError(f"category {largest}: does not fit into a 16-bit mask")
        self._destination = destination
        self._labels = labels
        self._lines: list[str] = []
        images, target = os.path.realpath(destination.images), os.path.realpath(destination.target)
        self._root = os.path.commonpath([images, target])
        self._images, self._target = os.path.relpath(images, self._root), os.path.relpath(target, self._root)

    def add(self, sample: Sample) -> None:
        """Write the mask of a sample."""
        ids, name = flat_ids(sample), png_name(sample.name)
        classes = np.zeros_like(ids)
        for segment in sample.segments:
            classes[ids == segment.id] = self._labels[segment.class_index].id
        write_atomically(self._destination.folder / "semantic" / name, classes_png(classes))
        picture, mask = Path(self._images, sample.name), Path(self._target, "semantic", name)
        self._lines.append(json.dumps({"img": picture.as_posix(), "segm": mask.as_posix()}, ensure_ascii=False))

    def finish(self) -> None:
        """Write the JSONL file."""
        write_atomically(self._destination.folder / "semantic.jsonl", "".join(f"{line}\n" for line in self._lines))

    def settings(self) -> dict[str, str]:
        """Return the settings of a split that reads the result."""
        here = os.path.realpath(os.curdir)
        inside = Path(self._root).is_relative_to(here)
        root = os.path.relpath(self._root, here) if inside else self._root
        return {"images": root, "annotations": f"{self._destination.target / 'semantic.jsonl'}"}


OUTPUTS: dict[OutputFormat, type[PanopticOutput | InstanceOutput | SemanticOutput]] = {
    OutputFormat.PANOPTIC: PanopticOutput,
    OutputFormat.INSTANCE: InstanceOutput,
    OutputFormat.SEMANTIC: SemanticOutput,
}


def png_name(name: str) -> str:
    """Return the name of the PNG for an image."""
    return PurePosixPath(name).with_suffix(".png").as_posix()


def image_row(sample: Sample) -> dict[str, Any]:
    """Return the row of a sample in COCO's list `images`."""
    height, width = sample.size
    return {"id": sample.image_id, "file_name": sample.name, "height": height, "width": width}


def bounding_box(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bounding box of a non-empty mask (H, W): x, y, width and height in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (H, W) as compressed COCO run lengths, ready for JSON."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
