"""Nested dicts by dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def get(data: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path.

    Raises:
        KeyError: The path is not set.
    """
    value: Any = data
    for key in path.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[key]
    return value


def has(data: Mapping[str, Any], path: str) -> bool:
    """Whether a dotted path is set."""
    try:
        get(data, path)
    except KeyError:
        return False
    return True


def put(data: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path; what is no section on the way is replaced by one."""
    *parents, last = path.split(".")
    for key in parents:
        inner = data.get(key)
        if not isinstance(inner, dict):
            inner = data[key] = {}
        data = inner
    data[last] = value


def remove(data: dict[str, Any], path: str) -> Any:
    """Take the value at a dotted path away and return it.

    Raises:
        KeyError: The path is not set.
    """
    parent, _, last = path.rpartition(".")
    section = get(data, parent) if parent else data
    if not isinstance(section, dict):
        raise KeyError(path)
    return section.pop(last)


def join(lower: dict[str, Any], upper: Mapping[str, Any]) -> None:
    """Write the upper data over the lower: mappings are joined, everything else is replaced."""
    for key, value in upper.items():
        below = lower.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            join(below, value)
        else:
            lower[key] = value
