"""The contracts of plugins as checks for the tests of packages that bring them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from oneformer_data.datasets import DataSet
from oneformer_data.opening.format import IMAGE, FileFormat
from oneformer_data.opening.loading import format_class
from oneformer_data.opening.record_cache import PackedRecords, pack
from oneformer_data.opening.sources import Source
from oneformer_data.sample import Sample, SegmentInfo
from oneformer_data.shards.decoding import decode
from oneformer_data.shards.originals import originals
from oneformer_data.training.targets import Targets, targets
from oneformer_data.training.tokenizer import prompt_row
from oneformer_spec import hooks
from oneformer_spec.labels import Label, Labels
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.plugins.task_declarations import declared_task, declared_tasks
from oneformer_spec.results import Segmentation
from oneformer_spec.segmentation import decode as decoding
from oneformer_spec.segmentation.frame import FitInto, plan

_LABELS = Labels(
    (
        Label(3, "square", True, (220, 20, 60)),
        Label(7, "ground", False, (60, 60, 60)),
        Label(9, "sky", False, (9, 9, 9)),
    )
)


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
    allowed = list(declared_tasks())
    _require(bool(declaration.tasks), f"{name}: declares no tasks")
    known = set(declaration.tasks) <= set(allowed)
    _require(known, f"{name}: declares the tasks {declaration.tasks}; available: {', '.join(allowed)}")
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


def check_task(declaration: hooks.Task) -> None:
    """Check an installed segmentation task: its prompt, its targets of several samples, and how it decodes results.

    Raises:
        AssertionError: The task breaks the contract; the message says where.
    """
    name = declaration.name
    _require(declared_task(name) == declaration, f"{name}: another task of that name is installed")
    _require(bool(declaration.prompt.strip()), f"{name}: the prompt is empty")
    prompt_row(name)  # fits a row of 77 tokens
    for sample in _samples():
        _check_targets(name, sample)
    for seed in range(3):
        _check_decoding(name, np.random.default_rng(seed))


def check_evaluator(declaration: hooks.Evaluator, **options: Any) -> None:
    """Check a declared score: it can be merged and sent between processes, and its headline numbers are there.

    Raises:
        AssertionError: The evaluator breaks the contract; the message says where.
    """
    name = declaration.name
    make, pairs = resolve(declaration.target), list(_predicted(declaration.task))
    make(_LABELS, **options).compute()  # of no image, as in a process without any
    whole, first, second = (make(_LABELS, **options) for _ in range(3))
    for index, (sample, segmentation) in enumerate(pairs):
        whole.update(sample, segmentation)
        (first if index < len(pairs) // 2 else second).update(sample, segmentation)
    first.merge(pickle.loads(pickle.dumps(second)))
    numbers = whole.compute()
    _require(isinstance(numbers, Mapping), f"{name}: compute returns {type(numbers).__name__}, expected a mapping")
    _require(str(numbers) == str(first.compute()), f"{name}: images counted in two parts give other numbers")
    for headline, keys in (declaration.headline or {}).items():
        found: Any = numbers
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        _require(isinstance(found, SupportsFloat), f"{name}: the headline {headline} is {found!r}, expected a number")


def check_transform(declaration: hooks.Transform, **options: Any) -> None:
    """Check a declared step of augmentation: valid samples, the same for the same random numbers, inputs as before.

    Raises:
        AssertionError: The transform breaks the contract; the message says where.
    """
    name, transform = declaration.name, resolve(declaration.target)(**options)
    for seed in range(3):
        for sample in _complete_samples():
            before = replace(sample, image=sample.image.copy(), id_maps=sample.id_maps.copy())
            found, again = (transform(sample, np.random.default_rng(seed)) for _ in range(2))
            _require(isinstance(found, Sample), f"{name}: returns {type(found).__name__}, expected a Sample")
            _checked(found, _LABELS, name)
            _require_equal([found], [again], f"{name}: the same random numbers give another sample")
            _require_equal([before], [sample], f"{name}: the sample that it was given is changed")


def _complete_samples() -> Iterator[Sample]:
    """Yield the samples of which every segment has pixels."""
    return (sample for sample in _samples() if {*np.unique(sample.id_maps)} - {0} == {s.id for s in sample.segments})


def _predicted(task: str) -> Iterator[tuple[Sample, Segmentation]]:
    """Yield samples with what a task decodes from random predictions of them."""
    rng = np.random.default_rng(0)
    for sample in _complete_samples():
        if len(sample.id_maps) > 1 and task != "instance":
            continue  # overlapping instances are ground truth of that task alone
        frame = plan(sample.size, FitInto(48, 64), divisibility=32)
        classes = 8 * rng.standard_normal((6, len(_LABELS) + 1)).astype(np.float32)
        masks = 4 * rng.standard_normal((6, 16, 16)).astype(np.float32)
        thresholds = decoding.Thresholds()
        yield (
            sample,
            decoding.decode(classes, masks, task=task, frame=frame, labels=_LABELS, thresholds=thresholds),
        )


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


def _samples() -> Iterator[Sample]:
    """Yield samples with stuff, things, void, a crowd, overlapping instances, and none of them."""
    ids = np.zeros((40, 56), dtype=np.int32)
    ids[:24], ids[4:14, 5:20], ids[10:30, 18:40], ids[30:38, 2:12] = 1, 2, 3, 4
    segments = (_segment(1, 1), _segment(2, 0), _segment(3, 0), replace(_segment(4, 0), is_crowd=True))
    image = np.full((*ids.shape, 3), 90, dtype=np.uint8)
    whole = Sample("whole.png", 1, image, ids[None], segments)
    yield whole
    over = np.zeros_like(ids)
    over[8:20, 10:30] = 5
    yield replace(whole, name="overlapping.png", id_maps=np.stack([ids, over]), segments=(*segments, _segment(5, 0)))
    yield replace(whole, name="empty.png", id_maps=np.zeros_like(ids)[None], segments=())
    yield replace(whole, name="one pixel.png", image=image[:1, :1], id_maps=np.ones((1, 1, 1), dtype=np.int32))


def _segment(number: int, index: int) -> SegmentInfo:
    return SegmentInfo(number, index, isthing=_LABELS[index].isthing, is_crowd=False)


def _check_targets(name: str, sample: Sample) -> None:
    where = f"{name}: targets of {sample.name}"
    before = sample.id_maps.copy(), sample.image.copy()
    found, again = targets(sample, name), targets(sample, name)
    _require(_same(found, again), f"{where}: are others when they are asked for again")
    unchanged = np.array_equal(before[0], sample.id_maps) and np.array_equal(before[1], sample.image)
    _require(unchanged, f"{where}: the sample was changed")
    _require(found.labels.dtype == np.int64, f"{where}: labels are {found.labels.dtype}, expected int64")
    _require(found.masks.dtype == np.bool_, f"{where}: masks are {found.masks.dtype}, expected bool")
    known = np.isin(found.labels, [segment.class_index for segment in sample.segments])
    _require(bool(known.all()), f"{where}: have the classes {found.labels.tolist()}, which the sample has not all")
    _require(bool(found.masks.any(axis=(1, 2)).all()), f"{where}: a mask is empty")


def _same(one: Targets, other: Targets) -> bool:
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.masks, other.masks)


def _check_decoding(name: str, rng: np.random.Generator) -> None:
    """Decode random predictions of an image of odd size: sure ones, and ones that find nothing."""
    frame = plan((37, 53), FitInto(48, 64), divisibility=32)
    for sureness in (0.0, 8.0):
        classes = sureness * rng.standard_normal((6, len(_LABELS) + 1)).astype(np.float32)
        masks = 4 * rng.standard_normal((6, 16, 16)).astype(np.float32)
        thresholds = decoding.Thresholds()
        found = decoding.decode(classes, masks, task=name, frame=frame, labels=_LABELS, thresholds=thresholds)
        _check_segmentation(f"{name}: decoding", found)


def _check_segmentation(where: str, found: Segmentation) -> None:
    _require(found.map.dtype == np.int32, f"{where}: the map is {found.map.dtype}, expected int32")
    numbers = {segment.id for segment in found.segments}
    _require(len(numbers) == len(found.segments), f"{where}: two segments have one id")
    painted = set(np.unique(found.map).tolist()) - {0}
    _require(painted <= numbers, f"{where}: the map holds {sorted(painted - numbers)}, which are not ids of segments")
    for segment in found.segments:
        _require(segment.category_id in _LABELS.indices, f"{where}: {segment.category_id} is not a category id")
        holds_id = not found.holds_classes or segment.id == segment.category_id
        _require(holds_id, f"{where}: the map holds classes, but segment {segment.id} is of {segment.category_id}")
        owned = _owned(found.map, segment.mask, segment.id)
        _require(segment.area == owned, f"{where}: segment {segment.id} has {owned} pixels, not {segment.area}")


def _owned(ids: NDArray[np.int32], mask: NDArray[np.bool_] | None, number: int) -> int:
    return int(np.count_nonzero(ids == number if mask is None else mask))
