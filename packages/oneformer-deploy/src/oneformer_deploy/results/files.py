"""The output files for one image: an overlay picture, a PNG label or id map, and a JSON list of segments."""

from __future__ import annotations

import io
import json
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oneformer_deploy.results.rle import encode
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.labels import Labels
from oneformer_spec.pictures.overlay import overlay
from oneformer_spec.results import Segment, Segmentation

SUFFIXES = {"overlay": ".jpg", "labels": ".png", "segments": ".json"}  # output folder -> suffix added to the image name
JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution keeps small letters sharp
MAX_EDGE = 65500  # pixels, a limit of JPEG libraries
PNG = {"compress_level": 3}  # higher levels hardly help for maps with few values


def output_paths(folder: Path, image: PurePath) -> dict[str, Path]:
    """Return the paths of an image's three output files by kind; ``image`` is relative to the input folder.

    >>> str(output_paths(Path("results"), PurePath("street/a.jpg"))["labels"])
    'results/labels/street/a.jpg.png'
    """
    return {name: folder / name / image.with_name(image.name + suffix) for name, suffix in SUFFIXES.items()}


def write_results(
    folder: Path, name: PurePath, image: NDArray[np.uint8], segmentation: Segmentation, labels: Labels
) -> None:
    """Write or replace the three output files of the RGB image (H, W, 3) called ``name``, each one atomically."""
    paths = output_paths(folder, name)
    write_atomically(paths["segments"], segments_json(name, segmentation))
    write_atomically(paths["labels"], _encoded(label_image(segmentation, labels), "PNG", **PNG))
    write_atomically(paths["overlay"], _encoded(overlay(image, segmentation, labels), "JPEG", **JPEG))


def label_image(segmentation: Segmentation, labels: Labels) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a segmentation's map as the pixels of a PNG; 0 is void.

    Maps of classes: category ids (H, W) with 8 bits, or 16 bits if the label map has ids above 255. Maps of segments:
    segment ids (H, W, 3) encoded as in COCO panoptic, id = R + 256 G + 65536 B.
    """
    largest = max(label.id for label in labels)
    if segmentation.holds_classes and largest < 2**8:
        return segmentation.map.astype(np.uint8)
    if segmentation.holds_classes and largest < 2**16:
        return segmentation.map.astype(np.uint16)
    channels = [(segmentation.map >> shift) & 255 for shift in (0, 8, 16)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def segments_json(name: PurePath, segmentation: Segmentation) -> str:
    """Return the segments as JSON, one per line.

    ``score`` is null for semantic classes. Instances include their mask, run-length encoded.
    """
    height, width = segmentation.map.shape
    head = {"image": name.as_posix(), "height": height, "width": width, "task": str(segmentation.task)}
    lines = [json.dumps(_row(segment), allow_nan=False) for segment in segmentation.segments]
    rows = ",\n    ".join(lines)
    body = f"[\n    {rows}\n  ]" if rows else "[]"
    return (
        "{\n"
        + "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
        + (f'  "segments": {body}\n}}\n')
    )


def _row(segment: Segment) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": segment.id,
        "category_id": segment.category_id,
        "name": segment.name,
        "isthing": segment.isthing,
        "score": None if segment.score is None else round(segment.score, 6),
        "area": segment.area,
        "bbox": list(segment.bbox),
    }
    if segment.mask is not None:
        row["segmentation"] = encode(segment.mask, segment.bbox)
    return row


def _encoded(pixels: NDArray[Any], format_name: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name, **options)
    return buffer.getvalue()
