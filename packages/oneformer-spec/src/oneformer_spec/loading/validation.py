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
from oneformer_spec.loading.layers import Layer
from oneformer_spec.loading.problems import Problems, shown
from oneformer_spec.loading.yaml_text import Path
from oneformer_spec.plugins.entries import part_name
from oneformer_spec.plugins.option_shape import Shape
from oneformer_spec.plugins.option_types import option_types
from oneformer_spec.schema.json_schema import section_schema, validation_schema
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


def check_keys(layer: Layer, problems: Problems, notes: list[str]) -> None:
    """Report and drop what is no field or section of the spec; a section of a plugin that is not here is a note."""
    layer.data = _known(layer, spec_tree(), layer.data, (), problems, notes)


def check_values(layer: Layer, problems: Problems, notes: list[str]) -> set[str]:
    """Bring values to their canonical spelling, report and drop those that do not fit; return the paths dropped.

    Raises:
        SpecError: More is wrong than anybody reads.
    """
    broken = _check(layer, spec_tree(), layer.data, (), problems, notes)
    for path in broken:
        remove(layer.data, path)
    return broken


def check_options(
    layer: Layer, section: Section, data: dict[str, Any], at: Path, problems: Problems, notes: list[str]
) -> dict[str, Any]:
    """Check the options of one entry of a list against its section; return what is known of them.

    Args:
        layer: Where things stand.
        section: The tree of the options, with paths such as `train.losses[0].weight`.
        data: The options as written.
        at: Keys and positions from the root to the entry.
        problems: Takes what is wrong.
        notes: Takes what was read otherwise than written.
    """
    known = _known(layer, section, data, at, problems, notes)
    _check(layer, section, known, at, problems, notes)
    return known


def mismatch(leaf: Leaf, value: Any) -> str:
    """Return in words what was found in place of what a field may hold."""
    hint = "".join(_hints(leaf.shape, leaf, value))
    return f"found {shown(value)}, expected {_expected(leaf.shape, leaf)}{hint}"


def dotted(path: Path) -> str:
    """Return keys and positions as a message shows them, such as `train.losses[0].weight`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _check(
    layer: Layer, section: Section, data: dict[str, Any], at: Path, problems: Problems, notes: list[str]
) -> set[str]:
    """Respell values, report those that do not fit, and return the paths of their fields."""
    start = len(section.path) + 1 if section.path else 0
    for leaf in section.leaves():
        if has(data, leaf.path[start:]):
            _respell(data, leaf, leaf.path[start:], notes)
    broken: set[str] = set()
    told = problems.places()
    errors = list(islice(_validator_for(section).iter_errors(data), MAX_ERRORS))
    for error in errors:
        leaf, inner = _leaf(section, tuple(error.absolute_path))
        if leaf.path in broken and not inner:
            continue  # a value of the wrong type passes no limit either
        if leaf.names and (inner or isinstance(error.instance, str)):
            continue  # a name or an entry, see `plugin_names`
        broken.add(leaf.path)
        place = layer.place((*at, *error.absolute_path))
        if error.instance is None and place in told:
            continue  # its text could not be read as a value, which is reported already
        problems.add(
            f"{layer.name(leaf.path)}{'.' * isinstance(next(iter(inner), 0), str)}{dotted(inner)}: "
            f"{_message(leaf, inner, error)}",
            place,
        )
    if len(errors) == MAX_ERRORS:  # what is wrong beyond them was not dropped
        raise SpecError(problems.lines())
    return broken


def _respell(data: dict[str, Any], leaf: Leaf, path: str, notes: list[str]) -> None:
    value = get(data, path)
    canonical = value if leaf.is_entries else canonical_value(leaf, value)
    put(data, path, _fitting(leaf.shape, canonical))
    if str(canonical).lower() != str(value).lower() and leaf.option.spellings:
        notes.append(f"{leaf.path}: {value} is read as {canonical}")
    if isinstance(value, str) and "${" in value and not leaf.option.secret:
        notes.append(f"{leaf.path}: {shown(value)} is taken as it is, nothing in it is evaluated")


def expected(leaf: Leaf) -> str:
    """Return in words what a field may hold."""
    return _expected(leaf.shape, leaf)


def _validator_for(section: Section) -> Any:
    return _validator() if section is spec_tree() else _validator_of(section_schema(section))


@cache
def _validator() -> Any:
    return _validator_of(validation_schema())


def _validator_of(schema: dict[str, Any]) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema)


def _known(
    layer: Layer, section: Section, data: Any, path: Path, problems: Problems, notes: list[str]
) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        problems.add(f"{dotted(path)}: found {shown(data)}, expected the section's fields", layer.place(path))
        return {}
    known: dict[str, Any] = {}
    for key, value in data.items():
        child, inner = section.children.get(key), (*path, key)
        if isinstance(child, Section):
            known[key] = _known(layer, child, value, inner, problems, notes)
        elif child is not None:
            known[key] = value
        elif section.plugins and (reason := option_types(section.plugins).failures.get(key)):
            problems.add(f"{dotted(inner)}: {part_name(section.plugins, key)}: {reason}", layer.key_place(inner))
        elif section.plugins and path and isinstance(value, dict) and not _close(section, key):
            notes.append(f"{dotted(inner)} has no effect: no {section.plugins} {key!r} is installed")
        else:
            problems.add(f"{dotted(inner)}: {_unknown(section, key)}", layer.key_place(inner))
    return known


def _close(section: Section, key: str) -> list[str]:
    return difflib.get_close_matches(key, section.children, 1) or _same_letters(key, section.children)


def _unknown(section: Section, key: str) -> str:
    prefix = f"{section.path}." if section.path else ""
    close = _close(section, key)
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


def _leaf(section: Section, path: Path) -> tuple[Leaf, Path]:
    """Return the field that a path from a section leads to or through, and the rest of the path."""
    node: Section | Leaf = section
    for end, key in enumerate(path):
        if isinstance(node, Leaf):
            return node, path[end:]
        node = node.children[str(key)]
    assert isinstance(node, Leaf), f"{path} is no field"
    return node, ()


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
            alternatives += ["a class path my_package.module:Class"] if option.class_path else []
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
