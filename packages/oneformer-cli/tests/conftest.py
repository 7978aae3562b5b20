"""A small real plugin, installed for one test: hook module, entry point and the modules that its targets name."""

from __future__ import annotations

from pathlib import Path

import pytest

HOOKS = """
from oneformer_spec.hooks import Command, Flag, hookimpl

@hookimpl
def oneformer_commands():
    return [
        Command("measure", "leaf_targets:measure", "Measure leaves.", flags=(Flag("dry_run", "Only say it."),)),
        Command("herbarium", "leaf_targets:app", "Keep leaves.", "app"),
        Command("press", "leaf_targets:not_an_app", "Press leaves.", "app"),
        Command("lose", "leaf_targets:nowhere", "Lose leaves.", "app"),
    ]
"""

# Stands for oneformer-data, which is not installed where this package is tested alone.
DATA_HOOKS = """
from oneformer_spec.hooks import Command, hookimpl

@hookimpl
def oneformer_commands():
    return [Command("dataset", "oneformer_data.none:app", "Check images.", "app")]
"""

DATA_CHECK = """
def problems(spec):
    for number in range(spec.train.num_epochs):
        yield f"leaf.png: item {number}: is torn"
"""

TARGETS = """
import sys
import typer
import numpy
from oneformer_spec.errors import DataError

app = typer.Typer(add_completion=False)
not_an_app = "leaf"

@app.command()
def add(name: str, count: int = 1, fail: str = ""):
    if fail == "data":
        raise DataError(f"{name}: leaf 3: is torn")
    if fail == "bug":
        raise ZeroDivisionError("no leaf")
    print(f"kept {count} {name}")

@app.command()
def show():
    print("all leaves")

def measure(spec, dry_run):
    print(f"results_dir={spec.results_dir} num_epochs={spec.train.num_epochs} dry_run={dry_run}")
    if spec.train.num_epochs == 13:
        raise DataError("leaf.png: item 13: is unlucky")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the distribution `leaf-tools`; returns the folder that holds it, for PYTHONPATH."""
    folder = tmp_path / "site"
    write_distribution(folder, "leaf-tools", "leaf_hooks", HOOKS)
    (folder / "leaf_targets.py").write_text(TARGETS)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def data_package(plugin: Path) -> Path:
    """Install a stand-in for oneformer-data, which finds as many problems as the spec has epochs."""
    write_distribution(plugin, "oneformer-data", "data_hooks", DATA_HOOKS)
    tools = plugin / "oneformer_data" / "tools"
    tools.mkdir(parents=True)
    for file in (tools.parent / "__init__.py", tools / "__init__.py"):
        file.touch()
    (tools / "check.py").write_text(DATA_CHECK)
    return plugin


@pytest.fixture
def broken_plugin(plugin: Path) -> Path:
    """Install `moss-tools` beside it, which cannot be imported, and `fern-tools`, which misspells its hook."""
    write_distribution(plugin, "moss-tools", "moss_hooks", "import a_library_that_is_missing")
    misspelt = "from oneformer_spec.hooks import hookimpl\n@hookimpl\ndef oneformer_comands(): return []"
    write_distribution(plugin, "fern-tools", "fern_hooks", misspelt)
    return plugin


@pytest.fixture
def rival(plugin: Path) -> None:
    """Install `ivy-tools`, which declares the same names as `leaf-tools`."""
    write_distribution(plugin, "ivy-tools", "ivy_hooks", (plugin / "leaf_hooks.py").read_text())


def write_distribution(site: Path, name: str, module: str, source: str) -> None:
    """Write what an installer leaves behind: a module and the metadata with its entry point."""
    metadata = site / f"{name.replace('-', '_')}-2.5.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (metadata / "entry_points.txt").write_text(f"[oneformer]\n{module} = {module}\n")
    (site / f"{module}.py").write_text(source)
