"""The sections of all backbones, built in or brought by plugins: found through the registry, checked, never fatal."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from oneformer_spec.plugins.option_shape import shape_of

RESERVED = ("type", "name", "freeze_at", "pretrained_weights")


@dataclass(frozen=True)
class BackboneSections:
    """Each backbone's options dataclass by the backbone's name, and one line per plugin that was left out."""

    kinds: Mapping[str, type]
    warnings: tuple[str, ...] = ()


@cache
def backbone_sections() -> BackboneSections:
    """Return what is installed in this environment."""
    from oneformer_spec.plugins.builtins import oneformer_backbones
    from oneformer_spec.plugins.registry import registry, resolve

    declared = {backbone.name: backbone for backbone in oneformer_backbones()} | dict(registry().backbones)
    kinds: dict[str, type] = {}
    warnings: list[str] = []
    for name, backbone in declared.items():
        try:
            kind = resolve(backbone.options)
            _check(name, kind)
        except Exception as error:  # whatever a plugin's module raises, specs without it must load
            warnings.append(f"backbone {name!r} ({backbone.options}) is left out: {' '.join(str(error).split())}")
        else:
            kinds[name] = kind
    return BackboneSections(kinds, tuple(warnings))


def section_types() -> Mapping[str, type]:
    """Return the options' dataclass of every backbone by name."""
    return backbone_sections().kinds


def default_sections() -> dict[str, Any]:
    """Return every backbone's options with their defaults."""
    return {name: kind() for name, kind in section_types().items()}


def _check(name: str, kind: Any) -> None:
    """Raise TypeError when a class cannot be a section."""
    if name in RESERVED:
        raise TypeError(f"{name!r} is a field of model.backbone")
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise TypeError(f"{kind!r} is no dataclass")
    annotations = typing.get_type_hints(kind)
    for item in fields(kind):
        if item.default is MISSING and item.default_factory is MISSING:
            raise TypeError(f"the option {item.name} has no default")
        shape_of(annotations[item.name])
