"""A setting of every field that waits for its feature, such that loading and validating accept it."""

from __future__ import annotations

from oneformer_spec.commands.unavailable import PENDING, Pending
from oneformer_spec.schema.tree import Leaf, leaves

# What no rule gives: a file that must be there, a field that the spec accepts in company alone, a value behind null.
SETTINGS = {
    "quantize.algorithm": ("awq_clip", "quantize.model_path=$model"),
}


def waiting() -> list[tuple[Pending, Leaf]]:
    """Return every field that waits, with its row."""
    return [
        (row, leaf)
        for row in PENDING
        for leaf in leaves().values()
        if leaf.path == row.path or leaf.path.startswith(f"{row.path}.")
    ]


def setting(row: Pending, leaf: Leaf) -> tuple[str, ...]:
    """Return words that ask for the feature."""
    value, *company = SETTINGS.get(leaf.path) or (_other(row, leaf),)
    return (*company, f"{leaf.path}={value}")


def _other(row: Pending, leaf: Leaf) -> str:
    default = leaf.default
    if leaf.option.choices and not isinstance(default, list):
        waits = row.waits or (lambda value: value != default)
        return next(choice for choice in leaf.option.choices if waits(choice))
    match default:
        case bool():
            return str(not default).lower()
        case int():
            return str(default + 1)
        case float():
            return str(default + 0.5)
        case list():
            return "[other]"
        case dict():
            return "{other: 1}"
        case _:
            return "other"
