"""The spec's sections and fields by path, read off the dataclasses once; what is derived from them walks this tree."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

from oneformer_spec.plugins.annotation_formats import annotation_formats
from oneformer_spec.plugins.backbone_sections import section_types
from oneformer_spec.plugins.option_shape import Shape, shape_of
from oneformer_spec.plugins.task_declarations import ALL, declared_tasks
from oneformer_spec.schema.dataset import TASK_PROBABILITIES
from oneformer_spec.schema.model import BackboneSection
from oneformer_spec.schema.option import Option, is_option, stated
from oneformer_spec.schema.spec import Spec
from oneformer_spec.schema.task_sections import MODES


@dataclass(frozen=True)
class Leaf:
    """A field that holds a value."""

    path: str
    default: Any
    option: Option
    shape: Shape


@dataclass(frozen=True)
class Section:
    """A field that holds fields; `kind` is its dataclass."""

    path: str
    kind: type
    help: str
    children: Mapping[str, Leaf | Section]

    def leaves(self) -> Iterator[Leaf]:
        """Yield all fields below, in the order of their declaration."""
        for child in self.children.values():
            if isinstance(child, Section):
                yield from child.leaves()
            else:
                yield child


@cache
def spec_tree() -> Section:
    """Return the whole spec, the sections of installed backbones included."""
    return _section(Spec, "", "The whole spec.")


@cache
def leaves() -> Mapping[str, Leaf]:
    """Return every field by its canonical path."""
    return {leaf.path: leaf for leaf in spec_tree().leaves()}


def plain(value: Any) -> Any:
    """Return a value, or a whole section, as lists, dicts and scalars."""
    if isinstance(value, BackboneSection):
        return _plain_fields(value) | {name: plain(options) for name, options in value.sections.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def build(section: Section, data: Mapping[str, Any]) -> Any:
    """Return a section's dataclass from valid plain data; what is absent takes its default."""
    values = {name: _value(section.children[name], data.get(name)) for name in section.children if name in data}
    for name, child in section.children.items():
        if isinstance(child, Section) and name not in values:
            values[name] = child.kind()
    if section.kind is BackboneSection:
        names = {item.name for item in fields(BackboneSection)}
        sections = {name: values.pop(name) for name in list(values) if name not in names}
        return BackboneSection(**values, sections=sections)
    return section.kind(**values)


def _plain_fields(value: Any) -> dict[str, Any]:
    return {item.name: plain(getattr(value, item.name)) for item in fields(value) if is_option(item)}


def _value(node: Leaf | Section, value: Any) -> Any:
    return build(node, value) if isinstance(node, Section) else _typed(node.shape, value)


def _typed(shape: Shape, value: Any) -> Any:
    if isinstance(value, list) and shape.items is not None:
        return shape.sequence(_typed(shape.items, item) for item in value)
    if isinstance(value, Mapping) and shape.values is not None:
        return {key: _typed(shape.values, item) for key, item in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool) and shape.kinds:
        return float(value) if "number" in shape.kinds else int(value)
    return value


def _section(kind: type, path: str, help_text: str) -> Section:
    hints = typing.get_type_hints(kind)
    children = {
        item.name: _child(hints[item.name], f"{path}.{item.name}".lstrip("."), item)
        for item in fields(kind)
        if is_option(item)
    }
    if kind is BackboneSection:
        children |= {
            name: _section(options, f"{path}.{name}", _first_line(options)) for name, options in section_types().items()
        }
    return Section(path, kind, help_text, children)


def _child(hint: Any, path: str, item: Any) -> Leaf | Section:
    declared = stated(item)
    if is_dataclass(hint):
        return _section(typing.cast(type, hint), path, declared.help)
    default = item.default if item.default is not MISSING else item.default_factory()
    grown = replace(declared, choices=_choices(path, declared), keys=_keys(declared))
    return Leaf(path, plain(default), grown, shape_of(hint))


def _choices(path: str, declared: Option) -> tuple[str, ...]:
    """Return the allowed words; those of some fields grow with the installed plugins."""
    from oneformer_spec.plugins.registry import registry

    if path == "model.backbone.type":
        return tuple(section_types())
    if path == "quantize.backend":
        return tuple(dict.fromkeys([*declared.choices, *registry().quantizers]))
    if declared.choices == MODES:
        return (*declared_tasks(), ALL)
    if path in ("dataset.train.type", "dataset.val.type", "dataset.test.type"):
        return tuple(annotation_formats())
    return declared.choices


def _keys(declared: Option) -> tuple[str, ...]:
    """Return the allowed keys of a mapping; those of the tasks' probabilities grow with the installed plugins."""
    return tuple(declared_tasks()) if declared.keys == tuple(TASK_PROBABILITIES) else declared.keys


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]
