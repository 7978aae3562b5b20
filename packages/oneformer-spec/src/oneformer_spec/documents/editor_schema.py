"""The JSON Schema (2020-12) for editors: older spellings are marked, what a task needs is required."""

from __future__ import annotations

import copy
from typing import Any

from oneformer_spec.loading.aliases import ALIASES, CLIPPING
from oneformer_spec.loading.task_files import required_paths
from oneformer_spec.plugins.option import Option
from oneformer_spec.schema.json_schema import validation_schema
from oneformer_spec.schema.tree import leaves


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
    words = schema if "enum" in schema else schema["anyOf"][0]
    words["enum"] = [*words["enum"], *option.spellings, *numbers]
    if numbers:
        schema["type"] = [schema["type"], "integer"]


def _require(schema: dict[str, Any], path: str) -> None:
    for name in path.split("."):
        schema.setdefault("required", [])
        schema["required"] = [*dict.fromkeys([*schema["required"], name])]
        schema = schema["properties"][name]
