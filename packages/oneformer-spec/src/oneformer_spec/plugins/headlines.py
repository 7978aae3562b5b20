"""The numbers of evaluators that stand for a task: shown, logged, and what a best checkpoint may be chosen by."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from oneformer_spec.errors import PluginError
from oneformer_spec.plugins.registry import registry
from oneformer_spec.plugins.task_declarations import in_order


def headlines(tasks: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the headline numbers of the evaluators of some tasks: their name -> the keys that lead to the number.

    They come in the order of the tasks, and of one task in that of the evaluators' names.

    Raises:
        PluginError: Two evaluators have a headline number of one name.
    """
    found: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}
    for task in in_order(tasks):
        for evaluator in registry().evaluators.values():
            for name, keys in (evaluator.headline or {}).items() if evaluator.task == task else ():
                if name in owners:
                    raise PluginError(
                        f"two evaluators have a headline number {name!r}: {owners[name]!r} and {evaluator.name!r}"
                    )
                owners[name], found[name] = evaluator.name, tuple(keys)
    return found


def headline_numbers(scores: Mapping[str, Any], tasks: Collection[str]) -> dict[str, float]:
    """Return the headline numbers of some tasks out of what their evaluators computed; NaN where one is missing."""
    return {name: _number(scores, keys) for name, keys in headlines(tasks).items()}


def _number(scores: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    found: Any = scores
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return math.nan if found is None else float(found)
