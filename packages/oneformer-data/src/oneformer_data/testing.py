"""The contract of an annotation format as a check for the tests of packages that bring one."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from oneformer_data.datasets import DataSet
from oneformer_data.opening.format import IMAGE, FileFormat
from oneformer_data.opening.loading import format_class
from oneformer_data.opening.record_cache import PackedRecords, pack
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample
from oneformer_data.shards.decoding import decode
from oneformer_data.shards.originals import originals
from oneformer_spec import hooks
from oneformer_spec.labels import Labels
from oneformer_spec.tasks import Task


def check_dataset(
    declaration: hooks.Dataset,
    annotations: str,
    *,
    images: str | None = None,
    panoptic: str | None = None,
    labels: Labels | None = None,
    split: str = "val",
) -> None:
    """Check an installed annotation format with a small data set without problems.

    Args:
        declaration: What the format's package declares, such as `registry().datasets["yolo"]`.
        annotations: The data set's annotations; `images` and `panoptic` where the format needs those folders.
        images: The folder of pictures.
        panoptic: The folder of PNG maps.
        labels: The classes, where the annotations do not name them.
        split: Which split of a spec names the data.

    Raises:
        AssertionError: The format breaks the contract; the message says where.
    """
    kind, name = format_class(declaration), declaration.name
    allowed = {task.value for task in Task}
    _require(bool(declaration.tasks), f"{name}: declares no tasks")
    _require(set(declaration.tasks) <= allowed, f"{name}: declares tasks {declaration.tasks}, known are {allowed}")
    kind(Source(f"dataset.{split}", "/nowhere", type=name))  # opens no file
    source = Source(f"dataset.{split}", annotations, images, panoptic, type=name)
    format = kind(source)
    labels = format.labels() if labels is None else labels
    samples = format.open(labels)
    _check_data_set(declaration, samples)
    everything = [_checked(samples[index], labels, name) for index in range(len(samples))]
    names = [sample.name for sample in everything]
    _require(len(set(names)) == len(names), f"{name}: two samples have one name")
    _require_equal(everything, samples, f"{name}: a sample differs when it is read again")
    _require_equal(everything, pickle.loads(pickle.dumps(samples)), f"{name}: samples differ in another process")
    _require(list(format.problems(labels)) == [], f"{name}: problems finds some where opening finds none")
    _require(format.num_pictures(labels) == len(everything), f"{name}: num_pictures differs from the samples")
    if isinstance(format, FileFormat):
        _check_files(format, labels, everything, name)
        _check_shards(source, labels, everything, name)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_data_set(declaration: hooks.Dataset, samples: DataSet) -> None:
    name = declaration.name
    _require(isinstance(samples, DataSet), f"{name}: open returns {type(samples).__name__}, expected a DataSet")
    _require(len(samples) > 0, f"{name}: the data set to check with is empty")
    tasks = {str(task) for index in range(len(samples)) for task in samples.tasks_at(index)}
    _require(tasks == {str(task) for task in samples.tasks}, f"{name}: `tasks` and `tasks_at` disagree")
    _require(tasks <= set(declaration.tasks), f"{name}: allows {sorted(tasks)}, declares {declaration.tasks}")


def _checked(sample: Sample, labels: Labels, name: str) -> Sample:
    """Return a sample that is as `Sample` says."""
    where, (height, width) = f"{name}: {sample.name}", sample.size
    image, maps = sample.image, sample.id_maps
    _require(image.dtype == np.uint8 and image.shape == (height, width, 3), f"{where}: image is {_array(image)}")
    _require(
        maps.dtype == np.int32 and maps.ndim == 3 and len(maps) > 0 and maps.shape[1:] == (height, width),
        f"{where}: id_maps is {_array(maps)}, expected int32 (L, {height}, {width})",
    )
    layers = [set(np.unique(layer).tolist()) - {0} for layer in maps]
    found = sorted(number for layer in layers for number in layer)
    ids = sorted(segment.id for segment in sample.segments)
    _require(len(set(found)) == len(found), f"{where}: a segment lies in two layers of id_maps")
    _require(found == ids, f"{where}: id_maps hold the ids {found}, the segments have {ids}")
    _require(not ids or ids[0] > 0, f"{where}: a segment has the id {ids[:1]}, expected above 0")
    for segment in sample.segments:
        index = segment.class_index
        _require(0 <= index < len(labels), f"{where}: segment {segment.id} has the class {index} of {len(labels)}")
        _require(segment.isthing == labels[index].isthing, f"{where}: segment {segment.id}: isthing is another one")
    return sample


def _array(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    return f"{array.dtype} {array.shape}"


def _check_files(format: FileFormat[Any], labels: Labels, samples: Sequence[Sample], name: str) -> None:
    """Records stand for the samples, and survive being written down and read."""
    records = format.records(labels)
    _require(len(records) == len(samples), f"{name}: has {len(records)} records and {len(samples)} samples")
    with TemporaryDirectory() as folder:
        path = Path(folder, "records")
        with open(path, "wb") as file:
            pack(file, records, (IMAGE, *format.members))
        again = list(PackedRecords(path, format.from_row))
        _require(again == list(records), f"{name}: records differ with dataset_type: serialized")


def _check_shards(source: Source, labels: Labels, samples: Sequence[Sample], name: str) -> None:
    """Samples that were packed are the same, also where the label map has another order."""
    data = originals(source, labels)
    stored = [data.stored(index) for index in range(data.count)]
    _require_equal(samples, [decode(each, labels, source) for each in stored], f"{name}: samples differ in tar shards")
    turned = Labels(labels.items[::-1])
    last = len(labels) - 1
    for each, sample in zip(stored, samples, strict=True):
        segments = tuple(replace(segment, class_index=last - segment.class_index) for segment in sample.segments)
        other = decode(each, turned, source)
        _require(other.segments == segments, f"{name}: {sample.name}: a record in tar shards holds class indices")


def _require_equal(one: Sequence[Sample], other: Sequence[Sample], message: str) -> None:
    _require(len(one) == len(other), message)
    for index, sample in enumerate(one):
        again = other[index]
        same = (sample.name, sample.image_id, sample.segments) == (again.name, again.image_id, again.segments)
        arrays = ((sample.image, again.image), (sample.id_maps, again.id_maps))
        _require(same and all(np.array_equal(left, right) for left, right in arrays), f"{message}: {sample.name}")
