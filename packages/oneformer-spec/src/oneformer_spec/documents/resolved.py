"""The resolved spec of a run, `experiment.yaml`: loading it gives the same spec."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from oneformer_spec.documents.yaml_lines import section_lines
from oneformer_spec.loading.dotted import get
from oneformer_spec.loading.overrides import SECRET
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import Leaf, plain, spec_tree


def dump(spec: Spec) -> str:
    """Return a spec as YAML, its notes as comments; a secret is written as `<set>` and must be given again."""
    data = plain(spec)
    if spec.encryption_key is not None:
        data["encryption_key"] = SECRET
    lines = section_lines(spec_tree(), data, lambda leaf, line: _line(leaf, line, data, spec.written), lambda _: [])
    notes = [f"# note: {' '.join(note.split())}" for note in spec.notes]
    return "\n".join(["# The resolved spec of a run: loading it gives the same spec.", *notes, *lines]) + "\n"


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
