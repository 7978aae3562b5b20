"""The manifest: metadata stored in every model file, so that a deployed model needs no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oneformer_spec.errors import CheckpointError, OneFormerError, UsageError
from oneformer_spec.labels import Labels
from oneformer_spec.plugins.task_declarations import in_order
from oneformer_spec.segmentation.decode import Thresholds
from oneformer_spec.segmentation.frame import FitInto, ShortestEdge, Size, SizeRule
from oneformer_spec.tasks import TASKS, task_row

if TYPE_CHECKING:
    from oneformer_spec.schema import Spec

FORMAT = 1
METADATA_KEY = "oneformer_manifest"
"""Key of the manifest in a checkpoint and in the `metadata_props` of an ONNX file."""


@dataclass(frozen=True)
class Manifest:
    """Labels, input frame, thresholds, task tokens, and the network's sizes: `model`, that section of the spec.

    `task_tokens` has a row of token ids for each task that the model was trained for: the built-in ones, and tasks of
    plugins, which need not be installed here. `plugins` are those that training used: kind and name of each part, such
    as "backbone convpyramid" -> "distribution==version".
    """

    labels: Labels
    model: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: SizeRule
    divisibility: int
    thresholds: Thresholds = field(default_factory=Thresholds)
    task_tokens: Mapping[str, list[int]] = field(default_factory=lambda: {task: task_row(task) for task in TASKS})
    model_name: str | None = None
    producer: Mapping[str, str] = field(default_factory=dict)
    fixed_size: Size | None = None
    plugins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_spec(
        cls,
        spec: Spec,
        labels: Labels,
        producer: Mapping[str, str],
        *,
        plugin_tokens: Mapping[str, list[int]] | None = None,
    ) -> Manifest:
        """Describe the model that a spec trains.

        Args:
            spec: Sizes, thresholds and input frame.
            labels: The classes.
            producer: Our package names and their versions.
            plugin_tokens: The row of token ids of each further task that is trained, `dataset.task_seq_len` each.
        """
        from oneformer_spec.loading.plugin_names import used_plugins

        test = spec.model.test
        return cls(
            labels=labels,
            model=_model(spec),
            mean=tuple(spec.dataset.pixel_mean),
            std=tuple(spec.dataset.pixel_std),
            size=size_rule(spec),
            divisibility=spec.model.one_former.size_divisibility,
            thresholds=Thresholds(test.object_mask_threshold, test.overlap_threshold, test.test_topk_per_image),
            task_tokens={task: task_row(task, spec.dataset.task_seq_len) for task in TASKS} | dict(plugin_tokens or {}),
            model_name=spec.model_name,
            producer=dict(producer),
            plugins=used_plugins(spec),
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the model was trained for and that are installed here, the built-in ones first."""
        return in_order(self.task_tokens)

    def tokens(self, task: str) -> list[int]:
        """Return a task's row of token ids.

        Raises:
            UsageError: The model was not trained for the task.
        """
        if task not in self.task_tokens:
            raise UsageError(f"the model was not trained for the task {task!r}; it knows {', '.join(self.task_tokens)}")
        return self.task_tokens[task]

    def cure(self, kind: str, name: str) -> str:
        """Return how to get the plugin that training took something from, such as a backbone; empty where unknown."""
        requirement = self.plugins.get(f"{kind} {name}")
        return f"; install it with: python -m pip install '{requirement}'" if requirement else ""

    def with_fixed_size(self, size: Size) -> Manifest:
        """Return the manifest of the same model exported at one input size (height, width)."""
        return replace(self, fixed_size=size)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain data for JSON; `from_dict` reads it."""
        return {
            "format": FORMAT,
            "producer": dict(self.producer),
            **({"plugins": dict(self.plugins)} if self.plugins else {}),
            "model_name": self.model_name,
            "labels": self.labels.rows(),
            "model": dict(self.model),
            "mean": list(self.mean),
            "std": list(self.std),
            "size": _size_to_dict(self.size),
            "fixed_size": list(self.fixed_size) if self.fixed_size else None,
            "divisibility": self.divisibility,
            "thresholds": {
                "object_mask": self.thresholds.object_mask,
                "overlap": self.thresholds.overlap,
                "topk": self.thresholds.topk,
            },
            "task_tokens": {str(task): list(row) for task, row in self.task_tokens.items()},
        }

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_dict(cls, data: object, source: str | Path) -> Manifest:
        """Build a manifest from plain data.

        Raises:
            CheckpointError: It is not a manifest, or has a newer format; the message begins with `source`.
        """
        if not isinstance(data, Mapping) or "format" not in data:
            raise CheckpointError(f"{source}: contains no oneformer manifest")
        number = data["format"]
        if isinstance(number, int) and number > FORMAT:
            raise CheckpointError(
                f"{source}: has manifest format {number}, but this version reads {FORMAT}; update oneformer"
            )
        if number != FORMAT:
            raise CheckpointError(f"{source}: its manifest is damaged (format {number!r})")
        try:
            fixed = data["fixed_size"]
            return cls(
                labels=Labels.parse(data["labels"], source=f"{source}: manifest"),
                model=dict(data["model"]),
                mean=tuple(float(value) for value in data["mean"]),
                std=tuple(float(value) for value in data["std"]),
                size=_size_from_dict(data["size"]),
                divisibility=int(data["divisibility"]),
                thresholds=_thresholds(data["thresholds"]),
                task_tokens=_task_tokens(data["task_tokens"]),
                model_name=data["model_name"],
                producer=dict(data["producer"]),
                plugins=dict(data.get("plugins", {})),
                fixed_size=(int(fixed[0]), int(fixed[1])) if fixed else None,
            )
        except OneFormerError as error:
            raise CheckpointError(str(error)) from None
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise CheckpointError(f"{source}: its manifest is damaged ({type(error).__name__}: {error})") from None

    @classmethod
    def from_json(cls, text: str, source: str | Path) -> Manifest:
        """Read the JSON text that `to_json` wrote; errors as in `from_dict`."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise CheckpointError(f"{source}: its manifest is not valid JSON: {error}") from None
        return cls.from_dict(data, source)


def _model(spec: Spec) -> dict[str, Any]:
    """Return the section `model` as plain data, with the options of the chosen backbone alone."""
    from oneformer_spec.loading.load import to_dict

    model: dict[str, Any] = to_dict(spec)["model"]
    others = spec.model.backbone.sections.keys() - {spec.model.backbone.type}
    return model | {"backbone": {name: value for name, value in model["backbone"].items() if name not in others}}


def size_rule(spec: Spec) -> SizeRule:
    """Return the input size for evaluation: from `dataset.image_size`, or else `test_min_size` and `test_max_size`."""
    augmentation = spec.dataset.augmentation
    return image_size_rule(spec.dataset.image_size) or ShortestEdge(
        augmentation.test_min_size, augmentation.test_max_size
    )


def image_size_rule(value: int | list[int] | tuple[int, ...] | None) -> SizeRule | None:
    """Return the size rule for a spec's `image_size`, which is an int (a square), [width, height], or None."""
    if value is None:
        return None
    width, height = (value, value) if isinstance(value, int) else value
    return FitInto(height=height, width=width)


def _task_tokens(data: Mapping[str, Any]) -> dict[str, list[int]]:
    """Read the rows of all tasks, the built-in ones first; a file that lacks one of those is damaged."""
    rows: dict[str, Any] = {task: data[task.value] for task in TASKS} | {
        str(name): row for name, row in data.items() if name not in TASKS
    }
    return {task: [int(value) for value in row] for task, row in rows.items()}


def _thresholds(data: Mapping[str, Any]) -> Thresholds:
    return Thresholds(float(data["object_mask"]), float(data["overlap"]), int(data["topk"]))


def _size_to_dict(rule: SizeRule) -> dict[str, int]:
    if isinstance(rule, ShortestEdge):
        return {"shortest": rule.shortest, "longest": rule.longest}
    return {"height": rule.height, "width": rule.width}


def _size_from_dict(data: Mapping[str, Any]) -> SizeRule:
    if "shortest" in data:
        return ShortestEdge(int(data["shortest"]), int(data["longest"]))
    return FitInto(height=int(data["height"]), width=int(data["width"]))
