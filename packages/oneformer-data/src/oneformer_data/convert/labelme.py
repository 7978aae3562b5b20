"""Read LabelMe: one JSON file per image with named shapes; shapes of one name and group form one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oneformer_data.convert.conversion import Annotated
from oneformer_data.convert.outputs import OutputFormat
from oneformer_data.convert.shapes import rasterise
from oneformer_data.formats.layers import stacked
from oneformer_data.opening.documents import is_integer, listed, read_json
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_spec.commands.exit import note
from oneformer_spec.errors import DataError
from oneformer_spec.files.images import read_image
from oneformer_spec.labels import Labels


def read(annotations: Path, images: Path, label_map: Path | None) -> Annotated:
    """Find the JSON files below a folder.

    The image of `annotations/a/b.json` is `images/a/` plus the last part of its `imagePath`, so no path leaves the
    folder. Without a label map, all names that occur become thing classes, in alphabetical order.

    Raises:
        DataError: The folder is missing or contains no JSON files, or the label map is wrong.
    """
    if not annotations.is_dir():
        raise DataError(f"{annotations}: {'is not a folder' if annotations.exists() else 'does not exist'}")
    paths = sorted(annotations.rglob("*.json"))
    if not paths:
        raise DataError(f"{annotations}: contains no JSON files")
    if label_map is not None:
        labels = Labels.read(label_map)
    else:
        labels = _found_labels(paths, annotations)
        note(
            f"{annotations}: classes are numbered from the names found here; for other splits of the same data pass "
            "this one's label_map.json as --label-map, or the numbers may differ"
        )
    indices = {label.name: index for index, label in enumerate(labels)}
    loads = [
        partial(
            load,
            path,
            images,
            subfolder=path.parent.relative_to(annotations).as_posix(),
            number=number,
            labels=labels,
            indices=indices,
        )
        for number, path in enumerate(paths, start=1)
    ]
    formats = (
        tuple(OutputFormat)
        if any(label.isthing for label in labels)
        else (OutputFormat.PANOPTIC, OutputFormat.SEMANTIC)
    )
    return Annotated(images, labels, loads, formats)


def load(
    path: Path, images: Path, *, subfolder: str, number: int, labels: Labels, indices: Mapping[str, int]
) -> Sample:
    """Read an image and rasterise its shapes; `indices` maps names to class indices.

    Raises:
        DataError: A file is damaged or missing, their sizes differ, or a shape is invalid (the message names it).
    """
    document = read_json(path)
    shapes = listed(document, "shapes", path)
    name = _picture_name(document, path, subfolder)
    try:
        image = read_image(images / name)
    except DataError as error:
        raise DataError(f"{error} ({path})") from None
    size = image.shape[0], image.shape[1]
    claimed = document.get("imageHeight"), document.get("imageWidth")
    if None not in claimed and claimed != size:
        raise DataError(f"{path}: says {claimed[1]}x{claimed[0]} but {images / name} is {size[1]}x{size[0]}")
    objects: dict[tuple[object, ...], list[int]] = {}
    for position, shape in enumerate(shapes):
        objects.setdefault(_object(shape, position, path, labels, indices), []).append(position)
    try:  # one mask at a time: all masks of a large image together would take many times its memory
        id_maps = stacked((_mask(shapes, parts, path, size) for parts in objects.values()), size)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    segments = []
    for segment_id, key in enumerate(objects, start=1):
        index = indices[str(key[0])]
        segments.append(SegmentInfo(segment_id, index, labels[index].isthing, is_crowd=False))
    return Sample(name, number, image, id_maps, tuple(segments))


def _mask(
    shapes: Sequence[Mapping[str, Any]], parts: Sequence[int], path: Path, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the union (H, W) of the shapes at the positions `parts`."""
    union = np.zeros(size, dtype=bool)
    for position in parts:
        try:
            union |= rasterise(shapes[position], size)
        except ValueError as error:
            raise _invalid(shapes[position], position, path, str(error)) from None
    return union


def _invalid(shape: Mapping[str, Any], position: int, path: Path, problem: str) -> DataError:
    return DataError(f"{path}: shape {position} ({shape.get('label')!r}) {problem}")


def _object(
    shape: Mapping[str, Any], position: int, path: Path, labels: Labels, indices: Mapping[str, int]
) -> tuple[object, ...]:
    """Return the key that all parts of one object share; all stuff of a class is one object."""
    name, group = shape.get("label"), shape.get("group_id")
    if not isinstance(name, str) or name not in indices:
        available = ", ".join(labels.names[:20]) + (", …" if len(labels) > 20 else "")
        raise _invalid(shape, position, path, f"has a name that is not in the label map; available: {available}")
    if group is not None and not is_integer(group):
        raise _invalid(shape, position, path, f"has the group_id {group!r}, expected a whole number or null")
    if not labels[indices[name]].isthing:
        return (name,)
    return (name, "shape", position) if group is None else (name, "group", group)


def _picture_name(document: Mapping[str, Any], path: Path, subfolder: str) -> str:
    stated = document.get("imagePath")
    name = PurePosixPath(stated.replace("\\", "/")).name if isinstance(stated, str) else ""
    if name in ("", ".."):
        raise DataError(f"{path}: imagePath must be a file name, found {stated!r}")
    return (PurePosixPath(subfolder) / name).as_posix()


def _found_labels(paths: Sequence[Path], annotations: Path) -> Labels:
    """Return the names of all shapes as thing classes; unreadable files are reported later, when they are converted."""
    names: set[str] = set()
    for path in paths:
        try:
            rows = listed(read_json(path), "shapes", path)
        except DataError:
            continue
        names |= {row["label"] for row in rows if isinstance(row.get("label"), str) and row["label"]}
    if not names:
        raise DataError(f"{annotations}: no shape has a label")
    return Labels.parse(
        [{"id": number, "name": name} for number, name in enumerate(sorted(names), 1)], f"{annotations}"
    )
