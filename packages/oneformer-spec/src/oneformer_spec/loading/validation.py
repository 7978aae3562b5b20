"""Check the data of a spec against the schema and say what is wrong in words that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

from oneformer_spec.errors import SpecError
from oneformer_spec.loading.aliases import canonical_value
from oneformer_spec.loading.dotted import get, has, put, remove
from oneformer_spec.loading.json_schema import validation_schema
from oneformer_spec.loading.layers import Layer
from oneformer_spec.loading.problems import Problems, shown
from oneformer_spec.loading.yaml_text import Path
from oneformer_spec.plugins.option_shape import Shape
from oneformer_spec.schema.tree import Leaf, Section, leaves, spec_tree

MAX_ERRORS = 300
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def check_keys(layer: Layer, problems: Problems) -> None:
    """Report and drop what is no field or section of the spec."""
    layer.data = _known(layer, spec_tree(), layer.data, (), problems)


def check_values(layer: Layer, problems: Problems, notes: list[str]) -> set[str]:
    """Bring values to their canonical spelling, report and drop those that do not fit; return the paths dropped.

    Raises:
        SpecError: More is wrong than anybody reads.
    """
    for path, leaf in leaves().items():
        if has(layer.data, path):
            _respell(layer, leaf, get(layer.data, path), notes)
    broken: set[str] = set()
    told = problems.places()
    errors = list(islice(_validator().iter_errors(layer.data), MAX_ERRORS))
    for error in errors:
        leaf = _leaf(tuple(error.absolute_path))
        inner = tuple(error.absolute_path)[leaf.path.count(".") + 1 :]
        if leaf.path in broken and not inner:
            continue  # a value of the wrong type passes no limit either
        broken.add(leaf.path)
        place = layer.place(tuple(error.absolute_path))
        if error.instance is None and place in told:
            continue  # its text could not be read as a value, which is told already
        position = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in inner)
        message = _message(leaf, inner, error)
        problems.add(f"{layer.name(leaf.path)}{position}: {message}", place)
    for path in broken:
        remove(layer.data, path)
    if len(errors) == MAX_ERRORS:  # what is wrong beyond them was not dropped
        raise SpecError(problems.lines())
    return broken


def _respell(layer: Layer, leaf: Leaf, value: Any, notes: list[str]) -> None:
    canonical = canonical_value(leaf, value)
    put(layer.data, leaf.path, _fitting(leaf.shape, canonical))
    if str(canonical).lower() != str(value).lower() and leaf.option.spellings:
        notes.append(f"{leaf.path}: {value} is read as {canonical}")
    if isinstance(value, str) and "${" in value and not leaf.option.secret:
        notes.append(f"{leaf.path}: {shown(value)} is taken as it is, nothing in it is evaluated")


def expected(leaf: Leaf) -> str:
    """Return in words what a field may hold."""
    return _expected(leaf.shape, leaf)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(validation_schema())


def _known(layer: Layer, section: Section, data: Any, path: Path, problems: Problems) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        name = ".".join(map(str, path))
        problems.add(f"{name}: found {shown(data)}, expected the section's fields", layer.place(path))
        return {}
    known: dict[str, Any] = {}
    for key, value in data.items():
        child = section.children.get(key)
        if child is None:
            problems.add(f"{'.'.join(map(str, (*path, key)))}: {_unknown(section, key)}", layer.key_place((*path, key)))
        elif isinstance(child, Section):
            known[key] = _known(layer, child, value, (*path, key), problems)
        else:
            known[key] = value
    return known


def _unknown(section: Section, key: str) -> str:
    prefix = f"{section.path}." if section.path else ""
    close = difflib.get_close_matches(key, section.children, 1) or _same_letters(key, section.children)
    if close:
        return f"unknown field; did you mean {prefix}{close[0]}?"
    elsewhere = [path for path in leaves() if path.rpartition(".")[2] == key]
    if elsewhere:
        nearest = max(elsewhere, key=lambda path: len(_common(path, prefix)))
        return f"unknown field; did you mean {nearest}?"
    names = ", ".join(section.children)
    return f"unknown field; {section.path or 'a spec'} has {names if len(names) < 200 else names[:197] + '...'}"


def _same_letters(key: str, names: Any) -> list[str]:
    return [name for name in names if name.lower().replace("_", "") == key.lower().replace("_", "").replace("-", "")]


def _common(left: str, right: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    return left[:length]


def _fitting(shape: Shape, value: Any) -> Any:
    """Return 3.0 as 3 where whole numbers are wanted; JSON Schema takes them for the same."""
    if isinstance(value, list) and shape.items is not None:
        return [_fitting(shape.items, item) for item in value]
    if isinstance(value, float) and "integer" in shape.kinds and "number" not in shape.kinds and value.is_integer():
        return int(value)
    return value


def _leaf(path: Path) -> Leaf:
    for end in range(1, len(path) + 1):
        leaf = leaves().get(".".join(map(str, path[:end])))
        if leaf is not None:
            return leaf
    raise AssertionError(f"{path} is no field")


def _message(leaf: Leaf, inner: Path, error: Any) -> str:
    shape = leaf.shape
    for key in inner:
        shape = (shape.items if isinstance(key, int) else shape.values) or Shape()
    if error.validator == "additionalProperties":
        names = ", ".join(leaf.option.keys)
        wrong = [key for key in error.instance if key not in leaf.option.keys]
        return f"unknown key {', '.join(map(repr, wrong))}, expected {names}"
    if error.validator == "uniqueItems":
        return f"found {shown(error.instance)}, expected different values"
    found = "nothing (null)" if error.instance is None else shown(error.instance)
    if leaf.option.secret:
        found = "something else"
    hint = "".join(_hints(shape, leaf, error.instance))
    return f"found {found}, expected {_expected(shape, leaf)}{hint}"


def _hints(shape: Shape, leaf: Leaf, value: Any) -> Iterator[str]:
    if str(value).lower() in leaf.option.replaced:
        yield f"; {leaf.option.replaced[str(value).lower()]}"
    elif isinstance(value, str):
        words = {word.lower(): word for word in leaf.option.choices}
        close = difflib.get_close_matches(value.lower(), words, 1)
        if close:
            yield f"; did you mean {words[close[0]]}?"
        elif not shape.allows("string") and _reads_as_number(value):
            yield "; take away the quotes"
    elif isinstance(value, int | float) and shape.allows("string") and not leaf.option.choices:
        yield "; write it in quotes if it is text"


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _expected(shape: Shape, leaf: Leaf) -> str:
    option = leaf.option
    alternatives = []
    for kind in shape.kinds:
        if kind == "string" and option.choices:
            alternatives.append(("one of " if len(option.choices) > 1 else "") + ", ".join(option.choices))
        elif kind == "string" and option.pattern:
            alternatives.append(f"text like {option.pattern}")
        elif kind in ("integer", "number"):
            alternatives.append(_TYPES[kind] + _limits(leaf))
        elif kind == "array":
            alternatives.append(_list(shape, leaf))
        else:
            alternatives.append(_TYPES[kind])
    return " or ".join(alternatives) or "any value"


def _limits(leaf: Leaf) -> str:
    option = leaf.option
    limits = [
        f"> {option.above:g}" if option.above is not None else "",
        f">= {option.minimum:g}" if option.minimum is not None else "",
        f"<= {option.maximum:.10g}" if option.maximum is not None else "",
    ]
    text = " and ".join(limit for limit in limits if limit)
    text = f" {text}" if text else ""
    if option.multiple_of:
        text += f", a multiple of {option.multiple_of}"
    return text + "".join(f", or {value}" for value in option.also)


def _list(shape: Shape, leaf: Leaf) -> str:
    length = shape.length or leaf.option.length
    count = f"of {length} " if length else "of "
    if not length and leaf.option.min_length:
        count = f"of at least {leaf.option.min_length} "
    inner = _expected(shape.items or Shape(), leaf)
    plural = inner.removeprefix("a ").replace("number", "numbers", 1) if inner.startswith("a ") else inner
    return f"a list {count}{plural}"
