"""Packages and rooms import only what their floors allow, imports inside functions included."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from interfaces import bounds, version
from rooms import ARROWS, FLOORS, imported, modules, upward

from oneformer_spec.plugins.registry import registry

MOST_MODULES = 12  # at the top level of a package, and in a room
WITHOUT_TORCH = ("spec", "data", "deploy", "cli")
TORCH = {"torch", "torchvision", "timm", "lightning", "pytorch_lightning", "transformers"}
# The distribution of a module whose name differs from it.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cuda": "cuda-bindings",
    "lightning_fabric": "pytorch-lightning",
    "ruamel": "ruamel.yaml",
}


def roots(repository: Path, package: str) -> dict[str, list[str]]:
    """Return the top-level names that a package imports, each with the modules that do."""
    source = repository / "packages" / f"oneformer-{package}" / "src"
    modules = sorted(source.rglob("*.py"))
    assert modules, f"{source} holds no module"
    found: dict[str, list[str]] = {}
    for module in modules:
        for name in imported(module):
            found.setdefault(name.partition(".")[0], []).append(str(module.relative_to(repository)))
    return found


def foreign(repository: Path, package: str) -> set[str]:
    """Return the top-level names of other people's that a package imports."""
    found = roots(repository, package)
    return {name for name in found if name not in sys.stdlib_module_names and not name.startswith("oneformer_")}


def declared(repository: Path, package: str) -> set[str]:
    """Return the distributions that a package's pyproject.toml names, extras included."""
    text = (repository / "packages" / f"oneformer-{package}" / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {}).values()
    return {re.split(r"[\[<>=!~; ]", line)[0] for line in chain(project["dependencies"], *extras)}


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_imports_only_the_siblings_that_its_arrow_allows(repository: Path, package: str) -> None:
    found = roots(repository, package)
    siblings = {name for name in found if name.startswith("oneformer_")}
    allowed = {f"oneformer_{name}" for name in ARROWS[package] | {package}}
    assert siblings <= allowed, {name: found[name] for name in siblings - allowed}


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_imports_only_what_stands_below_it(repository: Path, package: str) -> None:
    assert not upward(repository, package)


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor(repository: Path, package: str) -> None:
    assert {name.partition(".")[0] for name in modules(repository, package)} == set(FLOORS[package])


@pytest.mark.parametrize("package", FLOORS)
def test_no_room_holds_too_many_modules(repository: Path, package: str) -> None:
    homes = Counter(name.rpartition(".")[0] for name, file in modules(repository, package).items() if is_module(file))
    assert max(homes.values()) <= MOST_MODULES, homes


@pytest.mark.parametrize("package", FLOORS)
def test_a_name_stands_for_one_module_and_no_library(repository: Path, package: str) -> None:
    names = Counter(name.rpartition(".")[2] for name in modules(repository, package) if name != "__main__")
    assert [name for name, count in names.items() if count > 1] == []
    assert names.keys().isdisjoint(foreign(repository, package))


def is_module(file: Path) -> bool:
    return file.name != "__init__.py"


def test_an_arrow_that_is_turned_around_is_found(tmp_path: Path) -> None:
    source = tmp_path / "packages" / "oneformer-cli" / "src" / "oneformer_cli"
    source.mkdir(parents=True)
    (source / "main.py").write_text("def main() -> None:\n    from oneformer_cli import commands, plugin\n")
    (source / "commands.py").write_text("from oneformer_cli.main import main\n")
    (source / "plugin.py").write_text("import oneformer_cli.commands\n")
    assert upward(tmp_path, "cli") == ["commands imports main", "plugin imports commands"]


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_torch_is_never_imported_where_it_is_not_declared(repository: Path, package: str) -> None:
    found = roots(repository, package)
    assert TORCH.isdisjoint(found), {name: found[name] for name in TORCH & set(found)}


@pytest.mark.parametrize("package", ARROWS)
def test_every_third_party_import_is_declared(repository: Path, package: str) -> None:
    names = {name: DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in foreign(repository, package)}
    undeclared = set(names.values()) - declared(repository, package)
    assert undeclared <= ({"typer"} if package != "cli" else set()), undeclared


def test_only_the_modules_of_apps_import_typer_outside_the_cli(repository: Path) -> None:
    """`oneformer` itself brings typer; a command of kind `app` is the module of its target."""
    targets = {command.target.partition(":")[0] for command in registry().commands.values() if command.kind == "app"}
    apps = {f"{target.replace('.', '/')}.py" for target in targets}
    for package in set(ARROWS) - {"cli"}:
        for module in roots(repository, package).get("typer", []):
            assert module.partition("/src/")[2] in apps or module.endswith("/commands/convert_data.py")


@pytest.mark.parametrize("package", ARROWS)
def test_the_declared_siblings_are_the_arrows(repository: Path, package: str) -> None:
    text = (repository / "packages" / f"oneformer-{package}" / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = tomllib.loads(text)["project"]["dependencies"]
    siblings = {line for line in dependencies if line.startswith("oneformer-")}
    assert siblings == {f"oneformer-{name}{bounds(version(repository, name))}" for name in ARROWS[package]}


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import a.b, c\nfrom d.e import f\nfrom . import g\ndef h():\n  import i\n  x.import_module('j.k')\n"
    )
    assert list(imported(module)) == ["a.b", "c", "d.e", "i", "j.k"]
