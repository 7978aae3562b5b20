"""The resolved spec of a run, `experiment.yaml`: loading it gives the same spec."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from oneformer_spec.documents.yaml_lines import section_lines
from oneformer_spec.loading.dotted import get
from oneformer_spec.loading.overrides import SECRET
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import Leaf, plain, spec_tree


def dump(spec: Spec, task: str | None = None) -> str:
    """Return a spec as YAML, its notes as comments; a secret is written as `<set>` and must be given again.

    Of the sections of backbones and plugins it holds those in use and what the user wrote of others, so that a host
    without the plugins that a run did not use reads it; of the sections of plugins' commands that of `task` alone.
    """
    data = plain(spec)
    if spec.encryption_key is not None:
        data["encryption_key"] = SECRET
    unused = _unused_sections(spec, task)

    def line(leaf: Leaf, text: str) -> list[str]:
        if leaf.path.startswith(unused) and leaf.path not in spec.written:
            return []
        if task is not None and leaf.path.partition(".")[0] in spec.commands.keys() - {task}:
            return []
        return _line(leaf, text, data, spec.written)

    lines = section_lines(spec_tree(), data, line, lambda _: [])
    notes = [f"# note: {' '.join(note.split())}" for note in spec.notes]
    return "\n".join(["# The resolved spec of a run: loading it gives the same spec.", *notes, *lines]) + "\n"


def _unused_sections(spec: Spec, task: str | None) -> tuple[str, ...]:
    """Return the paths, each with a dot behind it, of the sections by name that this run does not read."""
    types = {getattr(spec.dataset, split).type for split in ("train", "val", "test")}
    used = {
        f"model.backbone.{spec.model.backbone.type}",
        f"quantize.backends.{spec.quantize.backend}",
        *(f"runtimes.{section.runtime}" for section in (spec.evaluate, spec.inference)),
        *(f"dataset.formats.{name}" for name in types),
        task or "",
    }
    sections = {
        "model.backbone": spec.model.backbone.sections,
        "dataset.formats": spec.dataset.formats,
        "evaluate.evaluators": spec.evaluate.evaluators,
        "quantize.backends": spec.quantize.backends,
        "runtimes": spec.runtimes,
        "": spec.commands,
    }
    paths = {f"{home}.{name}".lstrip(".") for home, held in sections.items() for name in held}
    return tuple(f"{path}." for path in sorted(paths - used))


def _line(leaf: Leaf, line: str, data: Mapping[str, Any], written: Set[str]) -> list[str]:
    """Leave out what would be taken for the user's choice and follows by itself."""
    value = get(data, leaf.path)
    by_itself = leaf.option.from_model or leaf.option.acts_when_set
    if by_itself and leaf.path not in written and value == leaf.default:
        return []
    if leaf.option.no_effect and value == leaf.default:
        return []
    if leaf.path == "train.optim.milestones" and get(data, "train.optim.steps") is not None:
        return []
    if leaf.path.endswith(".gpu_ids") and value == list(range(get(data, leaf.path.replace("gpu_ids", "num_gpus")))):
        return []
    return [line]
