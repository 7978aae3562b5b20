"""What a value may be, read off a dataclass field's annotation."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SCALARS = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}


@dataclass(frozen=True)
class Shape:
    """JSON types (none: anything), the shape of a list's items or a mapping's values, a fixed length.

    `sequence` is the type that a list becomes in the dataclass.
    """

    kinds: tuple[str, ...] = ()
    items: Shape | None = None
    values: Shape | None = None
    length: int | None = None
    sequence: type = tuple

    def allows(self, kind: str) -> bool:
        """Tell whether values of a JSON type fit."""
        return not self.kinds or kind in self.kinds


def shape_of(annotation: Any) -> Shape:
    """Return the shape of an annotation made of scalars, tuples, lists, mappings, unions and Any.

    Raises:
        TypeError: The annotation holds another type.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if annotation is Any:
        return Shape()
    if origin in (types.UnionType, typing.Union):
        return _union([shape_of(argument) for argument in arguments])
    if origin in (tuple, list):
        fixed = len(arguments) if origin is tuple and Ellipsis not in arguments else None
        return Shape(("array",), items=shape_of(arguments[0]), length=fixed, sequence=origin)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Shape(("object",), values=shape_of(arguments[1]))
    if annotation in _SCALARS:
        return Shape((_SCALARS[annotation],))
    raise TypeError(f"{annotation!r} is no type that a spec can hold")


def _union(shapes: list[Shape]) -> Shape:
    kinds = tuple(kind for shape in shapes for kind in shape.kinds)
    array = next((shape for shape in shapes if shape.items), Shape())
    values = next((shape.values for shape in shapes if shape.values), None)
    return Shape(kinds, array.items, values, array.length, array.sequence)
