"""`path.to.field=value` arguments of the command line, values in YAML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.aliases import ALIASES
from oneformer_spec.loading.layers import Layer, merge
from oneformer_spec.loading.problems import Place, Problems
from oneformer_spec.loading.yaml_text import Document, read_yaml
from oneformer_spec.schema.tree import Leaf, leaves

SECRET = "<set>"
_PLACE = re.compile(r"^:\d+:\d+: ")


def read_overrides(arguments: Sequence[str], layer: int, problems: Problems) -> Layer:
    """Read all overrides as one layer; of two for one path the last wins."""
    result = Layer()
    for number, argument in enumerate(arguments):
        written = _read(argument, Place(layer, number, 0, argument), problems)
        if written is not None:
            merge(result, written)
    return result


def split_override(argument: str) -> tuple[list[str], str] | None:
    """Return the keys and the value's text of an override, None if it is none."""
    name, equals, text = argument.partition("=")
    keys = name.strip().split(".")
    return (keys, text) if equals and all(keys) else None


def override_value(keys: Sequence[str], text: str) -> Document:
    """Read an override's value; nobody quotes on a command line, so a field that holds text takes the argument's own.

    Raises:
        SpecError: The value is not valid YAML.
    """
    leaf = _leaf(keys)
    if leaf is not None and _is_text(leaf, text):
        return Document(text)
    return read_yaml(text, "")


def _read(argument: str, place: Place, problems: Problems) -> Layer | None:
    parts = split_override(argument)
    if parts is None:
        problems.add("an override is written path.to.field=value", place)
        return None
    keys, text = parts
    leaf = _leaf(keys)
    if leaf is not None and leaf.option.secret:
        place = Place(place.layer, place.line, place.column, f"{'.'.join(keys)}={SECRET}")
    try:
        document = override_value(keys, text)
    except SpecError as error:
        document = Document(problems=[(place, _PLACE.sub("", problem)) for problem in error.problems])
    for _, message in document.problems:
        problems.add(f"{'.'.join(keys)}: {message}", place)
    return None if document.problems else _layer(keys, document, place)


def _layer(keys: Sequence[str], document: Document, place: Place) -> Layer:
    data: Any = document.data
    for key in reversed(keys):
        data = {key: data}
    whole = tuple(keys)
    return Layer(
        data,
        values={whole: place} | {(*whole, *path): place for path in document.values},
        keys={whole[:end]: place for end in range(1, len(keys) + 1)}
        | {(*whole, *path): place for path in document.keys},
    )


def _leaf(keys: Sequence[str]) -> Leaf | None:
    path = ".".join(keys)
    return leaves().get(ALIASES.get(path, path))


def _is_text(leaf: Leaf, text: str) -> bool:
    kinds = set(leaf.shape.kinds)
    if not kinds or not kinds <= {"string", "array", "null"} or "string" not in kinds:
        return False
    if text in ("null", "~") or (not text and "null" in kinds):
        return False
    return not text.startswith(('"', "'", "[") if "array" in kinds else ('"', "'"))
