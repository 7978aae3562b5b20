"""Two naming schemes of the same tensors as one table, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Names = str | tuple[str, ...]


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
        """Return tensors under our names; one that no row knows keeps its name, so that loading reports it."""
        kept = {name: value for name, value in tensors.items() if not any(p.fullmatch(name) for p in self._ignored)}
        return _rename(kept, [(_names(rule.theirs), _names(rule.ours)) for rule in self.rules])

    def to_theirs(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under their names, and those that their files hold besides."""
        renamed = _rename(tensors, [(_names(rule.ours), _names(rule.theirs)) for rule in self.rules])
        return renamed | dict(self.added(renamed))


def attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rows of torch's MultiheadAttention, which keeps queries, keys and values in one matrix."""
    parts = [f"{ours}.{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{theirs}.in_proj_weight", tuple(f"{part}.weight" for part in parts)),
        Rule(f"{theirs}.in_proj_bias", tuple(f"{part}.bias" for part in parts)),
        Rule(f"{theirs}.out_proj", f"{ours}.output"),
    )


def under(theirs: str, ours: str, names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Return one row per pair of names, each behind its side's prefix."""
    return tuple(Rule(f"{theirs}{their_name}", f"{ours}{our_name}") for their_name, our_name in names.items())


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)") + r"(\.[^{}]+)?")


def _rename(tensors: Mapping[str, Tensor], rows: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> dict[str, Tensor]:
    patterns = [(index, part, _pattern(name)) for index, (names, _) in enumerate(rows) for part, name in enumerate(names)]
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[int, str]] = {}  # a tensor to join -> the names of its parts by position
    wanted: dict[str, int] = {}
    for name, value in tensors.items():
        index, part, numbers, tail = _find(name, patterns)
        if index is None:
            renamed[name] = value
            continue
        sources, targets = rows[index]
        target_names = [target.format(*numbers) + tail for target in targets]
        if len(sources) > 1:
            parts.setdefault(target_names[0], {})[part] = name
            wanted[target_names[0]] = len(sources)
        else:
            renamed |= dict(zip(target_names, _cut(value, len(targets)), strict=True))
    for target, found in parts.items():
        joined = [tensors[found[position]] for position in sorted(found)]
        if len(joined) == wanted[target] and len({value.shape[1:] for value in joined}) == 1:
            renamed[target] = torch.cat(joined)
        else:
            renamed |= {name: tensors[name] for name in found.values()}
    return renamed


def _find(
    name: str, patterns: Iterable[tuple[int, int, re.Pattern[str]]]
) -> tuple[int | None, int, tuple[str, ...], str]:
    """Return the row and part that know a name, the numbers in it, and what follows the row's name."""
    for index, part, pattern in patterns:
        match = pattern.fullmatch(name)
        if match is not None:
            *numbers, tail = match.groups()
            return index, part, tuple(numbers), tail or ""
    return None, 0, (), ""


def _cut(value: Tensor, count: int) -> tuple[Tensor, ...]:
    if count == 1:
        return (value,)
    if value.dim() == 0 or value.shape[0] % count:
        return (value,) * count  # not what the row means: the shapes will not fit, and loading says so
    return value.chunk(count)
