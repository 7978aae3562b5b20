"""Fields that follow from others when the user leaves them out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from oneformer_spec.loading.dotted import get, has, put
from oneformer_spec.plugins.option_types import option_types
from oneformer_spec.schema.backbones import DinatOptions, SwinOptions
from oneformer_spec.schema.dataset import TASK_PROBABILITIES
from oneformer_spec.schema.tree import leaves, plain

SPLITS = ("train", "val", "test")
TASKS_WITH_DEVICES = ("train", "evaluate", "inference")


def derived(written: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return what is set, and what follows from it; a field that is set stays."""
    data = copy.deepcopy(dict(written))
    for split in SPLITS:
        _default(data, f"dataset.{split}.num_workers", setting(data, "dataset.workers"))
    if has(data, "dataset.augmentation.train_min_size"):
        _default(data, "dataset.augmentation.resize", "shortest_edge")
    for path in ("dataset.task_prob_train", "dataset.task_prob_val"):
        if has(data, path):
            put(data, path, dict.fromkeys(TASK_PROBABILITIES, 0.0) | get(data, path))
    for task in TASKS_WITH_DEVICES:
        _devices(data, task, notes)
    _backbones(data)
    return data


def setting(data: Mapping[str, Any], path: str) -> Any:
    """Return what is set, else the default."""
    return get(data, path) if has(data, path) else leaves()[path].default


def _default(data: dict[str, Any], path: str, value: Any) -> None:
    if not has(data, path):
        put(data, path, value)


def _devices(data: dict[str, Any], task: str, notes: list[str]) -> None:
    """The one of num_gpus and gpu_ids that implies more devices wins."""
    count_path, ids_path = f"{task}.num_gpus", f"{task}.gpu_ids"
    count, ids = setting(data, count_path), setting(data, ids_path)
    if count == len(ids):
        return
    both = has(data, count_path) and has(data, ids_path)
    devices = max(count, len(ids))
    if len(ids) != devices:
        put(data, ids_path, list(range(devices)))
    put(data, count_path, devices)
    if both:
        notes.append(f"{count_path}: {count} and {ids_path}: {ids} disagree; the larger wins, {devices} devices")


def _backbones(data: dict[str, Any]) -> None:
    for name, kind in option_types("backbone").kinds.items():
        path = f"model.backbone.{name}"
        if kind is SwinOptions and setting(data, f"{path}.preset") is not None:
            for option, value in SwinOptions.PRESETS[setting(data, f"{path}.preset")].items():
                _default(data, f"{path}.{option}", plain(value))
        if kind in (SwinOptions, DinatOptions):
            _outputs(data, path)


def _outputs(data: dict[str, Any], path: str) -> None:
    """Index i means res{i + 2}; the one of the two lists that is set gives the other."""
    features, indices = f"{path}.out_features", f"{path}.out_indices"
    if has(data, indices) and not has(data, features):
        put(data, features, [f"res{index + 2}" for index in get(data, indices)])
    elif has(data, features) and not has(data, indices):
        put(data, indices, [int(name.removeprefix("res")) - 2 for name in get(data, features)])
