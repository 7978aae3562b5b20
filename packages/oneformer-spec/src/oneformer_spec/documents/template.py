"""Render specs to start from: the default values as commented YAML or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from oneformer_spec.documents.yaml_lines import section_lines
from oneformer_spec.loading.task_files import required_paths
from oneformer_spec.loading.validation import expected
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import Leaf, Section, plain, spec_tree

# The parts of shared sections that a task reads, besides its own section.
SHARED = {
    "train": ("model", "dataset", "wandb"),
    "evaluate": (
        "model.test",
        "dataset.test",
        "dataset.label_map",
        "dataset.image_size",
        "dataset.augmentation.test_min_size",
        "dataset.augmentation.test_max_size",
    ),
    "inference": ("model.test", "dataset.augmentation.test_min_size", "dataset.augmentation.test_max_size"),
    "export": (),
    "gen_trt_engine": ("dataset.quant_calibration_dataset",),
    "quantize": ("dataset.quant_calibration_dataset",),
}
NOT_PRINTED_FOR_TRAINING = ("dataset.test", "model.test")


def render_spec(task: str, *, format: str = "yaml", everything: bool = False) -> str:
    """Return a spec with default values: the common fields of a task, or with `everything` every field of every task.

    Raises:
        UsageError: There is no such task.
    """
    required_paths(task)
    chosen = (lambda leaf: True) if everything else _chosen(task)
    runs_a_model = task in ("evaluate", "inference")
    if format == "json":
        return json.dumps(_nested(spec_tree(), plain(Spec()), chosen), indent=2) + "\n"

    def commented(leaf: Leaf, line: str) -> list[str]:
        silent = leaf.option.no_effect or leaf.option.acts_when_set or (runs_a_model and leaf.option.from_model)
        return [f"# {leaf.option.help} [{expected(leaf)}]", f"# {line}" if silent else line] if chosen(leaf) else []

    lines = section_lines(spec_tree(), plain(Spec()), commented, _heading)
    return "\n".join([*_title(task, everything), *lines]) + "\n"


def field_rows(path: str = "") -> list[tuple[str, str, str, str]]:
    """Return path, default value, allowed values and help text of every field at or below a path."""
    return [
        (leaf.path, json.dumps(leaf.default), expected(leaf), leaf.option.help)
        for leaf in spec_tree().leaves()
        if not path or leaf.path == path or leaf.path.startswith(f"{path}.")
    ]


def field_table(path: str = "") -> str:
    """Return a Markdown table of the fields at or below a path."""
    rows = [("field", "default", "allowed", "meaning"), ("---",) * 4]
    rows += [(f"`{name}`", f"`{default}`", allowed, meaning) for name, default, allowed, meaning in field_rows(path)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _chosen(task: str) -> Callable[[Leaf], bool]:
    prefixes = (task, *SHARED[task])
    left_out = NOT_PRINTED_FOR_TRAINING if task == "train" else ()

    def chosen(leaf: Leaf) -> bool:
        if not leaf.option.common or _below(leaf.path, left_out) or _below(leaf.path, _other_backbones()):
            return False
        return "." not in leaf.path or _below(leaf.path, prefixes)

    return chosen


def _other_backbones() -> tuple[str, ...]:
    backbone = Spec().model.backbone
    return tuple(f"model.backbone.{name}" for name in backbone.sections if name != backbone.type)


def _below(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _nested(section: Section, data: dict[str, Any], chosen: Callable[[Leaf], bool]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, child in section.children.items():
        if isinstance(child, Section):
            if inner := _nested(child, data.get(name, {}), chosen):
                found[name] = inner
        elif chosen(child):
            found[name] = data[name]
    return found


def _title(task: str, everything: bool) -> list[str]:
    what = "Every field of every task" if everything else f"The fields of {task} that are changed most often"
    return [
        f"# {what}, with default values. A field that is left out has its default.",
        "# Fields that are commented out take effect only when set, take the model file's value, or have no effect.",
        "",
    ]


def _heading(section: Section) -> list[str]:
    return ["", f"# {section.help}"] if "." not in section.path else [f"# {section.help}"]
