"""Small real plugins, installed for one test: a module, its metadata and its entry point."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oneformer_spec.loading import validation
from oneformer_spec.plugins import option_types, registry, task_declarations
from oneformer_spec.schema import json_schema, tree

HEAD = """
from dataclasses import dataclass, field
from oneformer_spec.hooks import *
from oneformer_spec.schema import option
"""
CACHES = (
    registry.registry,
    option_types.option_types,
    task_declarations.declared_tasks,
    tree.spec_tree,
    tree.leaves,
    json_schema.validation_schema,
    validation._validator,
)

Install = Callable[..., None]


def clear() -> None:
    """Forget what was found, so that the next question is answered by what is installed now."""
    for cache in CACHES:
        cache.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions `name`, version 1.2, each of one module `name_module`, beside what is there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def add(requires: str = "", **modules: str) -> None:
        for name, text in modules.items():
            (tmp_path / f"{name}_module.py").write_text(HEAD + textwrap.dedent(text))
            information = tmp_path / f"{name}-1.2.dist-info"
            information.mkdir()
            needs = f"Requires-Dist: {requires}\n" if requires else ""
            (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{needs}")
            (information / "entry_points.txt").write_text(f"[oneformer]\nmain = {name}_module\n")
        importlib.invalidate_caches()
        clear()

    yield add
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]
    monkeypatch.undo()
    clear()
