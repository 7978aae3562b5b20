from __future__ import annotations

import subprocess
import sys

import pytest

import oneformer_data

EVERYTHING = """
import importlib, pkgutil, oneformer_data
for module in pkgutil.walk_packages(oneformer_data.__path__, "oneformer_data."):
    if not module.name.startswith("oneformer_data.commands."):
        importlib.import_module(module.name)
"""


def loaded(code: str) -> set[str]:
    """The top-level modules that a program has imported at its end."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_the_hook_module_imports_nothing_heavy():
    assert not loaded("import oneformer_data.plugin") & {"numpy", "PIL", "pycocotools", "tokenizers", "torch", "typer"}


def test_no_module_needs_torch_or_typer():
    assert not loaded(EVERYTHING) & {"torch", "typer"}


def test_public_names_are_found_when_asked_for():
    assert sorted(oneformer_data._HOMES) == oneformer_data.__all__
    for name, home in oneformer_data._HOMES.items():
        module, _, attribute = home.partition(":")
        assert getattr(oneformer_data, name).__name__ == (attribute or name)
        assert getattr(oneformer_data, name).__module__ == f"oneformer_data.{module}"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        oneformer_data.nothing  # noqa: B018
