"""The table of spec fields whose feature is not implemented yet; specs with them load, but commands refuse to run.

Delete a row when its feature is implemented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.dotted import get
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import leaves, plain


@dataclass(frozen=True)
class Pending:
    """A field, or a section of fields, whose feature is missing, so that only the default value works."""

    path: str
    commands: tuple[str, ...]
    """The commands that refuse other values."""
    feature: str
    """What is missing, in words."""


PENDING: tuple[Pending, ...] = (
    Pending("model.sem_seg_head.ignore_value", ("train", "evaluate"), "another class index to ignore"),
    Pending("evaluate.num_nodes", ("evaluate",), "scores of several machines (num_gpus takes the devices of one)"),
)


def check_available(spec: Spec, command: str) -> None:
    """Refuse a spec that needs features which are not implemented yet.

    Raises:
        SpecError: The spec uses such features; every field is named.
    """
    problems = [
        f"{path}: {row.feature}: not available yet in this version"
        for row in PENDING
        if command in row.commands
        for path, value, default in _fields(spec, row.path)
        if value != default
    ]
    if problems:
        raise SpecError(problems)


def _fields(spec: Spec, path: str) -> list[tuple[str, Any, Any]]:
    """Return path, value and default of a field, or of every field in a section."""
    data = plain(spec)
    chosen = [leaf for leaf in leaves().values() if leaf.path == path or leaf.path.startswith(f"{path}.")]
    return [(leaf.path, get(data, leaf.path), leaf.default) for leaf in chosen]
