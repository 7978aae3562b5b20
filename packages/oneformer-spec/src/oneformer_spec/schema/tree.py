"""The tree of the whole spec, made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from oneformer_spec.plugins.option_tree import Leaf, Section, build, plain, section_tree
from oneformer_spec.schema.spec import Spec

__all__ = ["Leaf", "Section", "build", "leaves", "plain", "spec_tree"]


@cache
def spec_tree() -> Section:
    """Return the whole spec, the sections of installed plugins included."""
    return section_tree(Spec, "", "The whole spec.")


@cache
def leaves() -> Mapping[str, Leaf]:
    """Return every field by its canonical path."""
    return {leaf.path: leaf for leaf in spec_tree().leaves()}
