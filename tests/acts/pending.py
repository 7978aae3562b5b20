"""A setting of every field that waits for its feature, such that loading and validating accept it."""

from __future__ import annotations

from oneformer_spec.commands.unavailable import PENDING, Pending
from oneformer_spec.schema.tree import Leaf, leaves


def waiting() -> list[tuple[Pending, Leaf]]:
    """Return every field that waits, with its row."""
    return [
        (row, leaf)
        for row in PENDING
        for leaf in leaves().values()
        if leaf.path == row.path or leaf.path.startswith(f"{row.path}.")
    ]


def setting(leaf: Leaf) -> str:
    """Return an override that asks for the feature: another value than the default."""
    default = leaf.default
    if leaf.option.choices and not isinstance(default, list):
        return f"{leaf.path}={next(choice for choice in leaf.option.choices if choice != default)}"
    match default:
        case bool():
            return f"{leaf.path}={str(not default).lower()}"
        case int():
            return f"{leaf.path}={default + 1}"
        case float():
            return f"{leaf.path}={default + 0.5}"
        case list():
            return f"{leaf.path}=[other]"
        case dict():
            return f"{leaf.path}={{other: 1}}"
        case _:
            return f"{leaf.path}=other"
