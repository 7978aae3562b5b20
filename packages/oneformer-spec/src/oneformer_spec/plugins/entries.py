"""Make what an entry of a list such as `train.losses`, or a name or class path elsewhere in a spec, stands for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from oneformer_spec.errors import OneFormerError, PluginError, SpecError
from oneformer_spec.plugins.discovery import one_line
from oneformer_spec.plugins.option import Entry, option, stated
from oneformer_spec.plugins.option_tree import build, section_tree
from oneformer_spec.plugins.option_types import option_types
from oneformer_spec.plugins.packages import unmet
from oneformer_spec.plugins.registry import declarations, owner, registry, resolve

GIVEN: Mapping[str, tuple[str, ...]] = {"callback": ("spec", "folder"), "logger": ("spec", "folder")}
"""What the targets of a kind are given before their options, in this order."""


@dataclass(frozen=True)
class LossEntry:
    """What an entry of `train.losses` may set beside the options of the loss itself."""

    weight: float = option(1.0, minimum=0, help="Factor of the loss in the total.")


SHARED: Mapping[str, type] = {"loss": LossEntry}
"""What the entries of a kind have in common, whichever plugin they name; the plugin's target does not get it."""

CLASS_PATH = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def make(kind: str, entry: Entry, **given: Any) -> Any:
    """Return what an entry stands for, such as a loss: its target called with its options.

    Args:
        kind: The kind of declaration, such as "loss".
        entry: What the spec says.
        given: What comes before the options, by name: `spec` and `folder` of a callback or logger. A registered target
            gets all of it by position; one named by its class path gets what its signature names.

    Raises:
        SpecError: The name is not installed.
        PluginError: It cannot be loaded, or fails; the message names the plugin and its version.
    """
    target = target_of(kind, entry.type)
    options = entry_keywords(kind, entry)
    with naming_plugin(kind, entry.type):
        if is_class_path(entry.type):
            return target(**{name: given[name] for name in _taken(target, given)}, **options)
        return target(*given.values(), **options)


def target_of(kind: str, name: str) -> Callable[..., Any]:
    """Return the callable that a registered name or a class path stands for; errors as in `make`."""
    target = name if is_class_path(name) else declaration_of(kind, name).target
    with naming_plugin(kind, name):
        found: Callable[..., Any] = resolve(target)
    return found


def declaration_of(kind: str, name: str) -> Any:
    """Return an installed declaration.

    Raises:
        SpecError: The name is not installed.
    """
    known = declarations(kind)
    if name not in known:
        raise SpecError(not_installed(kind, name))
    return known[name]


def entry_keywords(kind: str, entry: Entry) -> dict[str, Any]:
    """Return an entry's options as keywords: with their defaults and typed, unless `type` is a class path.

    Raises:
        PluginError: The options dataclass cannot be used.
    """
    types = option_types(kind)
    if entry.type in types.failures:
        raise PluginError(f"{part_name(kind, entry.type)} cannot be used: {types.failures[entry.type]}")
    _, own = split_options(kind, entry.options)
    if is_class_path(entry.type) or entry.type not in types.kinds:
        return own
    return keywords(build(section_tree(types.kinds[entry.type], ""), own))


def shared_options(kind: str, entry: Entry) -> Any:
    """Return what all entries of a kind have in common, such as a `LossEntry`, as this one sets it."""
    shared, _ = split_options(kind, entry.options)
    return build(section_tree(SHARED[kind], ""), shared)


def split_options(kind: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that all entries of a kind have in common, and those of the plugin."""
    names = {item.name for item in fields(SHARED[kind])} if kind in SHARED else set()
    shared = {name: value for name, value in options.items() if name in names}
    return shared, {name: value for name, value in options.items() if name not in names}


def section_keywords(kind: str, name: str, sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a section of a plugin, such as `spec.runtimes["paper"]`, as keywords; none without options.

    Raises:
        PluginError: The options dataclass cannot be used.
    """
    if reason := option_types(kind).failures.get(name):
        raise PluginError(f"{part_name(kind, name)} cannot be used: {reason}")
    return keywords(sections[name]) if name in sections else {}


@contextmanager
def naming_plugin(kind: str, name: str) -> Iterator[None]:
    """Turn whatever a plugin raises into one line that names it and its version; what is built in passes through."""
    try:
        yield
    except Exception as error:
        plugin = owner(kind, name)
        if (plugin is None and not is_class_path(name)) or _is_for_the_user(error):
            raise
        problems = unmet(plugin.requires) if plugin is not None else ()
        reason = "; ".join((one_line(error), *problems))
        raise PluginError(f"{part_name(kind, name)} failed: {reason}") from error


def keywords(options: Any) -> dict[str, Any]:
    """Return options, a dataclass, as the keywords that their target takes."""
    return {item.name: getattr(options, item.name) for item in fields(options) if not stated(item).spec_only}


def is_class_path(name: str) -> bool:
    """Return whether a name is written "module:Class"."""
    return re.fullmatch(CLASS_PATH, name) is not None


def not_installed(kind: str, name: str) -> str:
    """Return in words that nothing of a name is installed, and what is."""
    if (kind, name) in registry().clashes:
        return registry().clashes[kind, name]
    known = ", ".join(sorted(declarations(kind))) or "none"
    return f"the {kind} {name!r} is not installed; available: {known}, or a class path my_package.module:Class"


def part_name(kind: str, name: str) -> str:
    """Return how messages call a declaration: its kind and name, and the plugin and version that bring it."""
    plugin = owner(kind, name)
    return f"{kind} {name!r} of {plugin.label}" if plugin is not None else f"{kind} {name!r}"


def signature_of(target: Callable[..., Any]) -> inspect.Signature | None:
    """Return a callable's signature, None where it has none to show."""
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):
        return None


def _taken(target: Callable[..., Any], given: Mapping[str, Any]) -> list[str]:
    signature = signature_of(target)
    return [name for name in given if signature is not None and name in signature.parameters]


def _is_for_the_user(error: Exception) -> bool:
    """Return whether an error says all that a user needs: one of ours, but for a plugin that breaks its contract."""
    return isinstance(error, OneFormerError) and not isinstance(error, PluginError)
