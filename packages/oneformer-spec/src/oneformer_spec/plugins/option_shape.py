"""What a value may be, read off a dataclass field's annotation."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

_SCALARS = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
_KINDS: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "string": (str,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
ALLOWED = (
    "bool, int, float, str, Path, Literal of texts, Enum, list, tuple, Mapping with keys of text, Any, None, "
    "unions of them, and dataclasses of such fields"
)


@dataclass(frozen=True)
class Shape:
    """JSON types (none: anything), the shape of a list's items or a mapping's values, a fixed length, allowed words.

    `sequence` is the type that a list becomes in the dataclass, `scalar` the type that a text becomes.
    """

    kinds: tuple[str, ...] = ()
    items: Shape | None = None
    values: Shape | None = None
    length: int | None = None
    sequence: type = tuple
    choices: tuple[str, ...] = ()
    scalar: type | None = None

    def allows(self, kind: str) -> bool:
        """Return whether values of a JSON type fit."""
        return not self.kinds or kind in self.kinds

    def words(self) -> tuple[str, ...]:
        """Return the words that a text in it must be one of; empty allows any."""
        inner = self.items or self.values
        return self.choices or (inner.words() if inner else ())


def shape_of(annotation: Any) -> Shape:
    """Return the shape of an annotation.

    Raises:
        TypeError: A spec cannot hold values of that type; the message lists what it can hold.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return Shape()
    if annotation in _SCALARS:
        return Shape((_SCALARS[annotation],))
    if origin in (types.UnionType, typing.Union):
        return _union([shape_of(argument) for argument in arguments])
    if origin in (tuple, list, Sequence) and arguments:
        return _sequence(origin, arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping) and arguments[0] is str:
        return Shape(("object",), values=shape_of(arguments[1]))
    if origin is Literal and all(isinstance(word, str) for word in arguments):
        return Shape(("string",), choices=arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Shape(("string",), choices=tuple(map(word_of, annotation)), scalar=annotation)
    if annotation is Path:
        return Shape(("string",), scalar=Path)
    inside = ", here one inside of another type" if is_dataclass(annotation) else ""
    raise TypeError(f"a spec cannot hold {_name(annotation)}{inside}; it can hold {ALLOWED}")


def word_of(member: Enum) -> str:
    """Return how a spec writes a member of an enumeration: its value where that is text, else its name."""
    return member.value if isinstance(member.value, str) else member.name


def plain(value: Any) -> Any:
    """Return a value as lists, dicts and scalars, as a spec file holds it."""
    if isinstance(value, Enum):
        return word_of(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def typed(shape: Shape, value: Any) -> Any:
    """Return a plain value that fits a shape as the type that the annotation names."""
    if isinstance(value, list) and shape.items is not None:
        return shape.sequence(typed(shape.items, item) for item in value)
    if isinstance(value, Mapping) and shape.values is not None:
        return {key: typed(shape.values, item) for key, item in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool) and shape.kinds:
        return float(value) if "number" in shape.kinds else int(value)
    if isinstance(value, str) and shape.scalar is not None:
        return _scalar(shape.scalar, value)
    return value


def fits(shape: Shape, value: Any) -> bool:
    """Return whether a plain value has the types of a shape."""
    if not shape.kinds:
        return True
    kinds = [kind for kind in shape.kinds if _is(value, kind)]
    if not kinds:
        return False
    if isinstance(value, list):
        inner = shape.items or Shape()
        return shape.length in (None, len(value)) and all(fits(inner, item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and fits(shape.values or Shape(), item) for key, item in value.items())
    return not (isinstance(value, str) and shape.choices) or value in shape.choices


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _scalar(kind: type, text: str) -> Any:
    return next(member for member in kind if word_of(member) == text) if issubclass(kind, Enum) else Path(text)


def _sequence(origin: Any, arguments: tuple[Any, ...]) -> Shape:
    fixed = len(arguments) if origin is tuple and Ellipsis not in arguments else None
    if fixed and any(argument != arguments[0] for argument in arguments):
        raise TypeError("a spec cannot hold a tuple of different types; use a dataclass with a field for each")
    sequence = list if origin is list else tuple
    return Shape(("array",), items=shape_of(arguments[0]), length=fixed, sequence=sequence)


def _union(shapes: list[Shape]) -> Shape:
    kinds = tuple(kind for shape in shapes for kind in shape.kinds)
    if any(not shape.kinds for shape in shapes):
        return Shape()
    array = next((shape for shape in shapes if shape.items), Shape())
    values = next((shape.values for shape in shapes if shape.values), None)
    scalar = next((shape.scalar for shape in shapes if shape.scalar), None)
    choices = tuple(word for shape in shapes for word in shape.choices)
    return Shape(kinds, array.items, values, array.length, array.sequence, choices, scalar)


def _name(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)
