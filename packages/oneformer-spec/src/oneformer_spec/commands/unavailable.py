"""Fields whose feature this version does not have yet: loading accepts them, the command that needs them refuses.

The one table of such fields. Delete a row when its feature is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.dotted import get
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.tree import leaves, plain

BUILD = ("train",)


@dataclass(frozen=True)
class Pending:
    """A field, or a section of fields, that waits: the commands that refuse it, and what is missing in words.

    `waits` tells which values wait; without it all but the default do.
    """

    path: str
    commands: tuple[str, ...]
    feature: str
    waits: Callable[[Any], bool] | None = None


def _one_of(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


PENDING: tuple[Pending, ...] = (
    # network
    Pending("model.backbone.type", BUILD, "this backbone", _one_of("radio")),
    Pending("model.sem_seg_head.ignore_value", ("train", "evaluate"), "another class index to ignore"),
    # training
    # deployment
    Pending(
        "evaluate.num_nodes",
        ("evaluate",),
        "scores of several machines (num_gpus takes the devices of one)",
    ),
    Pending("quantize.algorithm", ("quantize",), "this algorithm", _one_of("awq_clip", "awq_lite", "awq_full")),
)


def check_available(spec: Spec, command: str) -> None:
    """Refuse what this version does not have yet; only what differs from its default can be refused.

    Raises:
        SpecError: The spec asks for a feature that is not there yet; every such field is named.
    """
    problems = [
        f"{path}: {row.feature}: not available yet in this version"
        for row in PENDING
        if command in row.commands
        for path, value, default in _fields(spec, row.path)
        if (row.waits(value) if row.waits else value != default)
    ]
    if problems:
        raise SpecError(problems)


def _fields(spec: Spec, path: str) -> list[tuple[str, Any, Any]]:
    """Return path, value and default of a field, or of every field of a section."""
    data = plain(spec)
    chosen = [leaf for leaf in leaves().values() if leaf.path == path or leaf.path.startswith(f"{path}.")]
    return [(leaf.path, get(data, leaf.path), leaf.default) for leaf in chosen]
