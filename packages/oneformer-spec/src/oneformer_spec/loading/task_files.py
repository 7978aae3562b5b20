"""The files that a task needs: named in the spec, and there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from oneformer_spec.errors import DataError, SpecError, UsageError
from oneformer_spec.files.patterns import is_pattern
from oneformer_spec.files.patterns import missing as missing_file
from oneformer_spec.hooks import Dataset
from oneformer_spec.labels import Labels
from oneformer_spec.loading.relations import Finding, Relation, value_at
from oneformer_spec.plugins.annotation_formats import annotation_format, is_url
from oneformer_spec.schema.dataset import Split
from oneformer_spec.schema.spec import Spec

NUM_CLASSES = "model.sem_seg_head.num_classes"
LABEL_MAP = "dataset.label_map"

# What a task cannot start without, and what must exist where it is set.
REQUIRED = {
    "train": ("dataset.train.annotations",),
    "evaluate": (),
    "inference": ("inference.images_dir",),
    "export": ("export.checkpoint",),
    "gen_trt_engine": ("gen_trt_engine.onnx_file",),
    "quantize": ("quantize.model_path",),
}
EXISTING = {
    "train": (
        LABEL_MAP,
        "train.resume_training_checkpoint_path",
        "train.pretrained_model_path",
        "model.backbone.pretrained_weights",
    ),
    "evaluate": ("evaluate.checkpoint", "evaluate.trt_engine"),
    "inference": ("inference.checkpoint", "inference.trt_engine", "inference.images_dir"),
    "export": ("export.checkpoint",),
    "gen_trt_engine": ("gen_trt_engine.onnx_file",),
    "quantize": ("quantize.model_path",),
}


def required_paths(task: str) -> tuple[str, ...]:
    """Return the fields that a task cannot start without.

    Raises:
        UsageError: No spec drives such a task.
    """
    if task not in REQUIRED:
        raise UsageError(f"no task {task!r}; a spec drives {', '.join(REQUIRED)}")
    return REQUIRED[task]


def file_relations(task: str | None) -> tuple[Relation, ...]:
    """Return what must hold of the files that a task reads; without a task, of the label map alone."""
    if task is None:
        return (_label_map,)

    def required(spec: Spec) -> Iterator[Finding]:
        for path in REQUIRED.get(task, ()):
            if not value_at(spec, path):
                yield Finding((path,), f"is not set; {task} needs it")
        if task in ("evaluate", "inference") and not (
            value_at(spec, f"{task}.checkpoint") or value_at(spec, f"{task}.trt_engine")
        ):
            yield Finding((f"{task}.checkpoint", f"{task}.trt_engine"), f"is not set; {task} needs a model file")
        if task == "evaluate" and not (spec.dataset.test.annotations or spec.dataset.val.annotations):
            yield Finding(("dataset.test.annotations", "dataset.val.annotations"), "is not set; evaluate needs it")

    def existing(spec: Spec) -> Iterator[Finding]:
        for path in EXISTING.get(task, ()):
            yield from _missing(spec, path)
        for split in _splits(spec, task):
            yield from _split_files(spec, f"dataset.{split}")

    return (required, existing, _label_map) if task == "train" else (required, existing)


def _label_map(spec: Spec) -> Iterator[Finding]:
    """The label map, where it exists, has as many categories as the network has classes."""
    name, expected = spec.dataset.label_map, spec.model.sem_seg_head.num_classes
    if not name or not _exists(name):
        return
    try:
        labels = Labels.read(name)
    except DataError as error:
        yield Finding((LABEL_MAP,), str(error))
        return
    if len(labels) != expected:
        yield Finding((NUM_CLASSES, LABEL_MAP), f"num_classes is {expected}, but {name} has {len(labels)} categories")
    largest = max(label.id for label in labels)
    if not spec.dataset.contiguous_id and largest > len(labels):
        yield Finding(
            ("dataset.contiguous_id", LABEL_MAP),
            f"false needs the category ids 1..{len(labels)}, but {name} has the id {largest}",
        )


def _splits(spec: Spec, task: str) -> tuple[str, ...]:
    """Return the splits whose files a task reads."""
    if task == "train":
        return ("train", "val")
    if task == "evaluate":
        return ("test",) if spec.dataset.test.annotations else ("val",)
    return ()


def _missing(spec: Spec, path: str) -> Iterator[Finding]:
    field = path.rpartition(".")[2]
    for name in _names(value_at(spec, path)):
        if name and not _exists(name):
            yield Finding((path,), f"{name} does not exist")
        elif field in ("images", "panoptic", "images_dir") and name and not Path(name).is_dir():
            yield Finding((path,), f"{name} is not a folder")
        elif field == "label_map" and name and Path(name).is_dir():
            yield Finding((path,), f"{name} is a folder, expected a file")


def _split_files(spec: Spec, section: str) -> Iterator[Finding]:
    """Yield what is missing of a split: its folders, and its annotations in the places that their format allows."""
    split: Split = value_at(spec, section)
    for field in ("images", "panoptic"):
        yield from _missing(spec, f"{section}.{field}")
    names, maps = _names(split.annotations), _names(split.panoptic)
    for number, name in enumerate(names):
        if not name:
            continue
        panoptic = bool(maps and maps[number if len(maps) == len(names) else 0])
        try:
            declared = annotation_format(name, type=split.type, panoptic=panoptic, section=section)
        except SpecError as error:
            path, _, message = str(error).partition(": ")
            missing = None if _exists(name) else f"{name} does not exist"
            yield Finding((f"{section}.annotations",), missing) if missing else Finding((path,), message)
        else:
            problem = _annotation_problem(name, declared)
            if problem is not None:
                yield Finding((f"{section}.annotations",), problem)


def _annotation_problem(name: str, declared: Dataset) -> str | None:
    """Return why annotations of a format cannot be where the spec says, or None."""
    if _exists(name):
        expected_file = "folder" not in declared.places and Path(name).is_dir()
        return f"{name} is a folder, expected a file" if expected_file else None
    if is_url(name):
        return None if "url" in declared.places else f"{name} is a URL; {declared.name} is read from files alone"
    missing = missing_file(name) if "pattern" in declared.places and is_pattern(name) else name
    return missing and f"{missing} does not exist"


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def num_gpus_here() -> int:
    """Return the number of NVIDIA devices that the driver shows."""
    return sum(1 for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
