"""The options dataclasses of all that is installed, by kind and name: found when asked for, checked, never fatal."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from oneformer_spec.plugins.option_shape import Shape, fits, plain, shape_of
from oneformer_spec.plugins.registry import declarations, resolve

RESERVED: Mapping[str, tuple[str, ...]] = {
    "transform": ("type",),
    "loss": ("type", "weight"),
    "callback": ("type",),
    "logger": ("type",),
}
"""Keys of an entry of a kind that are not options of the plugin."""


@dataclass(frozen=True)
class OptionTypes:
    """Options dataclasses by the name of their declaration, and for those that cannot be used the reason."""

    kinds: Mapping[str, type]
    failures: Mapping[str, str]


class InstalledOptions(Mapping[str, Any]):
    """The default options of every installed declaration of a kind, looked up when it is read."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getitem__(self, name: str) -> Any:
        return option_types(self._kind).kinds[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(option_types(self._kind).kinds)

    def __len__(self) -> int:
        return len(option_types(self._kind).kinds)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._kind!r})"


@cache
def option_types(kind: str) -> OptionTypes:
    """Return the options dataclasses of the installed declarations of a kind, such as "backbone"."""
    kinds: dict[str, type] = {}
    failures: dict[str, str] = {}
    for name, declaration in declarations(kind).items():
        options: str | None = getattr(declaration, "options", None)
        if options is None:
            continue
        try:
            found = checked_options(resolve(options))
            _check_names(kind, found)
            kinds[name] = found
        except Exception as error:  # whatever a plugin's module raises, specs without it must load
            failures[name] = f"{options}: {' '.join(str(error).split())}"
    return OptionTypes(kinds, failures)


def _check_names(kind: str, options: type) -> None:
    for item in fields(options):
        if item.name in RESERVED.get(kind, ()):
            raise TypeError(f"the option {item.name} is one that every entry of a {kind} has already")


def checked_options(kind: Any) -> type:
    """Return an options dataclass.

    Raises:
        TypeError: It is not a dataclass, or a field of it has no default, a type that a spec cannot hold, or a default
            that does not fit its type.
    """
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise TypeError(f"{kind!r} is not a dataclass")
    try:
        annotations = typing.get_type_hints(kind)
    except NameError as error:
        raise TypeError(f"the types of its fields cannot be read: {error}") from error
    for item in fields(kind):
        _check_field(item, annotations[item.name])
    return kind


def _check_field(item: Field[Any], annotation: Any) -> None:
    if item.default is MISSING and item.default_factory is MISSING:
        raise TypeError(f"the option {item.name} has no default")
    if is_dataclass(annotation):
        checked_options(annotation)
        return
    try:
        shape = shape_of(annotation)
    except TypeError as error:
        raise TypeError(f"the option {item.name}: {error}") from None
    default = item.default if item.default is not MISSING else typing.cast(Any, item.default_factory)()
    _check_default(item.name, shape, default)


def _check_default(name: str, shape: Shape, default: Any) -> None:
    if not fits(shape, plain(default)):
        raise TypeError(f"the option {name}: the default {default!r} does not fit its type")
