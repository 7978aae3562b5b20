"""The JSON Schema (2020-12) of a spec, derived from the dataclasses; editors complete and check a spec with it."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from oneformer_spec.loading.aliases import ALIASES, CLIPPING
from oneformer_spec.loading.task_files import required_paths
from oneformer_spec.plugins.option_shape import Shape
from oneformer_spec.schema.option import Option
from oneformer_spec.schema.tree import Leaf, Section, leaves, spec_tree

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def validation_schema() -> dict[str, Any]:
    """Return the schema of canonical specs: no aliases, one spelling per value."""
    return {"$schema": DIALECT, **_section(spec_tree())}


def json_schema(task: str | None = None) -> dict[str, Any]:
    """Return the schema for editors: older spellings are marked deprecated, what `task` cannot start without required.

    Raises:
        UsageError: There is no such task.
    """
    schema = copy.deepcopy(validation_schema())
    for leaf in leaves().values():
        if leaf.option.spellings:
            _allow_spellings(_at(schema, leaf.path), leaf.option)
    for alias, path in ALIASES.items():
        parent, _, name = alias.rpartition(".")
        older = {"description": f"Older spelling of {path}.", "deprecated": True}
        copied = {key: value for key, value in _at(schema, path).items() if key not in ("description", "default")}
        _section_at(schema, parent)["properties"][name] = older | copied
    enabled = {"description": "False is train.clip_grad_type: none.", "deprecated": True, "type": "boolean"}
    _section_at(schema, CLIPPING)["properties"]["enabled"] = enabled
    for path in required_paths(task) if task is not None else ():
        _require(schema, path)
    return {"title": f"OneFormer spec{f' for {task}' if task else ''}", **schema}


def leaf_schema(leaf: Leaf) -> dict[str, Any]:
    """Return the schema of one field."""
    described = {"description": leaf.option.help} if leaf.option.help else {}
    return described | {"default": leaf.default} | _shape(leaf.shape, leaf.option)


def _section(section: Section) -> dict[str, Any]:
    return {
        "type": "object",
        "description": section.help,
        "additionalProperties": False,
        "properties": {
            name: _section(child) if isinstance(child, Section) else leaf_schema(child)
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
        return {"enum": [*option.choices, *([None] if "null" in shape.kinds else [])]}
    return {"pattern": f"^(?:{'|'.join(option.choices)})$"}


def _at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split("."):
        schema = schema["properties"][name]
    return schema


def _section_at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the schema of a section; one that holds older spellings alone is made."""
    for name in path.split("."):
        empty = {"type": "object", "deprecated": True, "additionalProperties": False, "properties": {}}
        schema = schema["properties"].setdefault(name, empty)
    return schema


def _allow_spellings(schema: dict[str, Any], option: Option) -> None:
    numbers = [int(word) for word in option.spellings if word.isdigit()]
    schema["enum"] = [*schema["enum"], *option.spellings, *numbers]
    if numbers:
        schema["type"] = [schema["type"], "integer"]


def _require(schema: dict[str, Any], path: str) -> None:
    for name in path.split("."):
        schema.setdefault("required", [])
        schema["required"] = [*dict.fromkeys([*schema["required"], name])]
        schema = schema["properties"][name]
