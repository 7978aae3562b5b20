"""The JSON Schema (2020-12) of canonical specs, derived from the dataclasses; loading checks values with it."""

from __future__ import annotations

from functools import cache
from typing import Any

from oneformer_spec.plugins.entries import CLASS_PATH
from oneformer_spec.plugins.option import Option
from oneformer_spec.plugins.option_shape import Shape
from oneformer_spec.schema.tree import Leaf, Section, spec_tree

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def validation_schema() -> dict[str, Any]:
    """Return the schema of canonical specs: no aliases, one spelling per value."""
    return {"$schema": DIALECT, **section_schema(spec_tree())}


def leaf_schema(leaf: Leaf) -> dict[str, Any]:
    """Return the schema of one field."""
    described = {"description": leaf.option.help} if leaf.option.help else {}
    shape = _entries(leaf.option.choices) if leaf.is_entries else _shape(leaf.shape, leaf.option)
    return described | {"default": leaf.default} | shape


def _entries(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a list of entries: a name, a class path, or a mapping whose `type` is one of them."""
    name = [{"type": "string", "enum": list(names)}, {"type": "string", "pattern": f"^{CLASS_PATH}$"}]
    mapping = {"type": "object", "required": ["type"], "properties": {"type": {"anyOf": name}}}
    return {"type": "array", "items": {"type": ["string", "object"], "anyOf": [*name, mapping]}}


def section_schema(section: Section) -> dict[str, Any]:
    """Return the schema of a section with everything in it."""
    return {
        "type": "object",
        "description": section.help,
        "additionalProperties": False,
        "properties": {
            name: section_schema(child) if isinstance(child, Section) else leaf_schema(child)
            for name, child in section.children.items()
        },
    }


def _shape(shape: Shape, option: Option) -> dict[str, Any]:
    """Limits act on numbers, words and the items of lists alike; JSON Schema ignores those that do not fit a type."""
    schema: dict[str, Any] = {}
    if shape.kinds:
        schema["type"] = shape.kinds[0] if len(shape.kinds) == 1 else list(shape.kinds)
    if shape.items is not None:
        schema["items"] = _shape(shape.items, option)
        schema |= _lengths(shape, option)
    if shape.values is not None:
        schema |= _mapping(shape.values, option)
    if "number" in shape.kinds or "integer" in shape.kinds:
        schema |= _numbers(option)
    if "string" in shape.kinds:
        schema |= _words(shape, option)
    return schema


def _lengths(shape: Shape, option: Option) -> dict[str, Any]:
    length = shape.length or option.length
    found: dict[str, Any] = {"minItems": length, "maxItems": length} if length else {}
    if not length and option.min_length:
        found["minItems"] = option.min_length
    if option.distinct or option.ascending:
        found["uniqueItems"] = True
    return found


def _mapping(values: Shape, option: Option) -> dict[str, Any]:
    if option.keys:
        inner = _shape(values, option)
        return {"additionalProperties": False, "properties": dict.fromkeys(option.keys, inner)}
    return {"additionalProperties": _shape(values, option)} if values.kinds else {}


def _numbers(option: Option) -> dict[str, Any]:
    limits = {
        "minimum": option.minimum,
        "maximum": option.maximum,
        "exclusiveMinimum": option.above,
        "multipleOf": option.multiple_of,
    }
    schema = {name: limit for name, limit in limits.items() if limit is not None}
    return {"anyOf": [{"enum": list(option.also)}, schema]} if option.also else schema


def _words(shape: Shape, option: Option) -> dict[str, Any]:
    if option.pattern:
        return {"pattern": f"^(?:{option.pattern})$"}
    if not option.choices:
        return {}
    if set(shape.kinds) <= {"string", "null"}:
        words = {"enum": [*option.choices, *([None] if "null" in shape.kinds else [])]}
        return {"anyOf": [words, {"pattern": f"^{CLASS_PATH}$"}]} if option.class_path else words
    return {"pattern": f"^(?:{'|'.join(option.choices)})$"}
