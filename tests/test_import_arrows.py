"""Which package may import which, read from the syntax trees of all modules (imports inside functions included)."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from oneformer_spec.plugins import registry

ARROWS = {
    "spec": set(),
    "data": {"spec"},
    "model": {"spec"},
    "train": {"data", "model", "spec"},
    "deploy": {"spec"},
    "cli": {"spec"},
}
WITHOUT_TORCH = ("spec", "data", "deploy", "cli")
TORCH = {"torch", "torchvision", "timm", "lightning", "pytorch_lightning", "transformers"}
# The distribution of a module whose name differs from it.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cuda": "cuda-bindings",
    "lightning_fabric": "pytorch-lightning",
    "ruamel": "ruamel.yaml",
}


def imported(module: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, those given to `importlib.import_module` as text included."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name


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
    """`oneformer` itself brings typer; a command of kind `app` is the module of its target and others like `x_app`."""
    targets = {command.target.partition(":")[0] for command in registry().commands.values() if command.kind == "app"}
    apps = {f"{target.replace('.', '/')}.py" for target in targets}
    for package in set(ARROWS) - {"cli"}:
        for module in roots(repository, package).get("typer", []):
            assert module.partition("/src/")[2] in apps or module.endswith("_app.py")


@pytest.mark.parametrize("package", ARROWS)
def test_the_declared_siblings_are_the_arrows(repository: Path, package: str) -> None:
    text = (repository / "packages" / f"oneformer-{package}" / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = tomllib.loads(text)["project"]["dependencies"]
    siblings = {line for line in dependencies if line.startswith("oneformer-")}
    assert siblings == {f"oneformer-{name}>=0.1,<0.2" for name in ARROWS[package]}


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import a.b, c\nfrom d.e import f\nfrom . import g\ndef h():\n  import i\n  x.import_module('j.k')\n"
    )
    assert list(imported(module)) == ["a.b", "c", "d.e", "i", "j.k"]
