"""Rename tensors between two naming schemes with one table that works in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Parts = tuple[str, ...]
Names = str | Parts


@dataclass(frozen=True)
class Rule:
    """A row: a tensor's name, or the beginning of one up to a dot, in both schemes; `{}` is a number, the same in both.

    Several names on a side are the equal parts, along the first axis, of the one tensor on the other side.
    """

    theirs: Names
    ours: Names


@dataclass(frozen=True)
class Table:
    """A naming scheme: what it is called, the tensor that gives it away, its rows, and what carries no information.

    `ignored` names tensors as rules do. `added` returns, for tensors under their names, those that a file of theirs
    holds besides.
    """

    kind: str
    marker: str
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()
    added: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda state: {}

    @cached_property
    def _ignored(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_pattern(name) for name in self.ignored)

    def to_ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under our names; unknown tensors keep their name, so that loading reports them."""
        kept = {name: value for name, value in tensors.items() if not any(p.fullmatch(name) for p in self._ignored)}
        return _rename(kept, [(_names(rule.theirs), _names(rule.ours)) for rule in self.rules])

    def to_theirs(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under the foreign names, plus those that foreign files have in addition."""
        renamed = _rename(tensors, [(_names(rule.ours), _names(rule.theirs)) for rule in self.rules])
        return renamed | dict(self.added(renamed))


def attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rows for torch's MultiheadAttention, which stores queries, keys and values as one matrix."""
    parts = [f"{ours}.{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{theirs}.in_proj_weight", tuple(f"{part}.weight" for part in parts)),
        Rule(f"{theirs}.in_proj_bias", tuple(f"{part}.bias" for part in parts)),
        Rule(f"{theirs}.out_proj", f"{ours}.output"),
    )


def under(theirs: str, ours: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Return one row per pair of names, each with the prefix of its side."""
    return tuple(Rule(f"{theirs}{their_name}", f"{ours}{our_name}") for their_name, our_name in names.items())


def _names(names: Names) -> Parts:
    return (names,) if isinstance(names, str) else names


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)") + r"(\.[^{}]+)?")


def _rename(tensors: Mapping[str, Tensor], rows: Sequence[tuple[Parts, Parts]]) -> dict[str, Tensor]:
    """Rename tensors by rows (sources, targets); rows with several names on one side split or join tensors."""
    patterns = [(_pattern(source), sources, targets) for sources, targets in rows for source in sources]
    renamed: dict[str, Tensor] = {}
    joins: dict[str, Parts] = {}  # a tensor to join -> the names of its parts in their order
    for name, value in tensors.items():
        found = _filled(name, patterns)
        if found is None:
            renamed[name] = value
        elif len(found[0]) > 1:
            joins[found[1][0]] = found[0]
        else:
            renamed |= dict(zip(found[1], _cut(value, len(found[1])), strict=True))
    for target, parts in joins.items():
        renamed |= _joined(target, {part: tensors[part] for part in parts if part in tensors}, len(parts))
    return renamed


def _filled(name: str, patterns: Iterable[tuple[re.Pattern[str], Parts, Parts]]) -> tuple[Parts, Parts] | None:
    """Return the sources and targets of the row that matches a name, with numbers and the rest filled in."""
    for pattern, sources, targets in patterns:
        match = pattern.fullmatch(name)
        if match is not None:
            *numbers, tail = match.groups(default="")
            return tuple(x.format(*numbers) + tail for x in sources), tuple(x.format(*numbers) + tail for x in targets)
    return None


def _cut(value: Tensor, count: int) -> tuple[Tensor, ...]:
    if count == 1:
        return (value,)
    if value.dim() == 0 or value.shape[0] % count:
        return (value,) * count  # cannot be split: the shapes will not fit, and loading reports it
    return value.chunk(count)


def _joined(target: str, parts: Mapping[str, Tensor], count: int) -> Mapping[str, Tensor]:
    """Return the joined tensor, or the parts unchanged if one is missing or has another shape."""
    shapes = {value.shape for value in parts.values()}
    if len(parts) < count or len(shapes) > 1 or shapes == {torch.Size()}:
        return parts
    return {target: torch.cat(list(parts.values()))}
