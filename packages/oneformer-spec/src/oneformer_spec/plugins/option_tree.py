"""Sections and fields by path, read off dataclasses; what is derived from a schema walks this tree."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any

from oneformer_spec.plugins import option_shape
from oneformer_spec.plugins.option import Entry, Option, entry_of, is_option, opened, stated
from oneformer_spec.plugins.option_shape import Shape, shape_of, typed
from oneformer_spec.plugins.option_types import option_types
from oneformer_spec.plugins.registry import declarations

ENTRIES = tuple[Entry, ...]
_ENTRIES_SHAPE = Shape(("array",), items=Shape(("string", "object")))


@dataclass(frozen=True)
class Leaf:
    """A field that holds a value."""

    path: str
    default: Any
    option: Option
    shape: Shape
    is_entries: bool = False

    @property
    def names(self) -> str | None:
        """The kind of declaration whose names it takes as values."""
        return None if self.option.keys else self.option.names


@dataclass(frozen=True)
class Section:
    """A field that holds fields; `kind` is its dataclass, or dict where it holds nothing but the sections of plugins.

    `plugins` is the kind of declaration whose sections it holds beside its own fields, such as "backbone".
    """

    path: str
    kind: type
    help: str
    children: Mapping[str, Leaf | Section]
    plugins: str | None = None

    def leaves(self) -> Iterator[Leaf]:
        """Yield all fields below, in the order of their declaration."""
        for child in self.children.values():
            if isinstance(child, Section):
                yield from child.leaves()
            else:
                yield child


def section_tree(kind: type, path: str, help_text: str = "") -> Section:
    """Return the tree of a dataclass of options, with the sections of installed plugins where it is open for them."""
    hints = typing.get_type_hints(kind)
    children: dict[str, Leaf | Section] = {}
    plugins = None
    for item in fields(kind):
        name = f"{path}.{item.name}".lstrip(".")
        if is_option(item):
            children[item.name] = _child(hints[item.name], name, item)
        elif (beside := opened(item)) is not None:
            plugins = beside
    if plugins is not None:
        children |= {name: node for name, node in plugin_sections(plugins, path).items() if name not in children}
    return Section(path, kind, help_text or first_line(kind), children, plugins)


def plugin_sections(kind: str, path: str) -> dict[str, Leaf | Section]:
    """Return the sections of all installed declarations of a kind that have options, below a path."""
    return {
        name: section_tree(options, f"{path}.{name}".lstrip(".")) for name, options in option_types(kind).kinds.items()
    }


def plain(value: Any) -> Any:
    """Return a value, or a whole section, as lists, dicts and scalars."""
    if isinstance(value, Entry):
        return value.written()
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else option_shape.plain(value)


def build(section: Section, data: Mapping[str, Any]) -> Any:
    """Return a section's dataclass from valid plain data; what is absent takes its default."""
    values = {
        name: _value(child, data.get(name, {}))
        for name, child in section.children.items()
        if name in data or isinstance(child, Section)
    }
    if section.kind is dict:
        return values
    own = {item.name for item in fields(section.kind)}
    beside = {name: values.pop(name) for name in list(values) if name not in own}
    holder = next((item.name for item in fields(section.kind) if opened(item) and not is_option(item)), None)
    return section.kind(**values, **({holder: beside} if holder else {}))


def first_line(kind: type) -> str:
    """Return the first line of a class's docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _plain_fields(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in fields(value):
        if is_option(item):
            inner = plain(getattr(value, item.name))
            found |= {} if opened(item) and not inner else {item.name: inner}
        elif opened(item):
            found |= plain(getattr(value, item.name))
    return found


def _value(node: Leaf | Section, value: Any) -> Any:
    if isinstance(node, Section):
        return build(node, value)
    return tuple(entry_of(item) for item in value) if node.is_entries else typed(node.shape, value)


def _child(hint: Any, path: str, item: Any) -> Leaf | Section:
    declared = stated(item)
    if (kind := opened(item)) is not None:
        return Section(path, dict, declared.help, plugin_sections(kind, path), kind)
    if is_dataclass(hint):
        return section_tree(typing.cast(type, hint), path, declared.help)
    is_entries = hint == ENTRIES
    shape = _ENTRIES_SHAPE if is_entries else shape_of(hint)
    default = item.default if item.default is not MISSING else item.default_factory()
    return Leaf(path, plain(default), _grown(declared, shape), shape, is_entries)


def _grown(declared: Option, shape: Shape) -> Option:
    """Add the names of what is installed to the allowed words, or to the keys of a mapping by name."""
    names = declarations(declared.names) if declared.names else {}
    if declared.keys:
        return replace(declared, keys=tuple(dict.fromkeys([*declared.keys, *names])))
    return replace(declared, choices=tuple(dict.fromkeys([*names, *declared.choices, *shape.words()])))
