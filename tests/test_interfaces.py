"""What siblings import of a released package changes only with its minor version and the siblings' bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from interfaces import NOTES, bounds, interface, problems, release, released, version
from packaging.requirements import Requirement
from rooms import ARROWS

SPEC = """
from dataclasses import dataclass

@dataclass
class Section:
    lr: float
    steps: int = 10

@dataclass
class Spec:
    train: Section

def load(files, *, task=None) -> Spec: ...
def unused(value): ...
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository in which oneformer-data imports `load` and `Spec` of oneformer-spec; nothing is released."""
    for package in ARROWS:
        folder = tmp_path / "packages" / f"oneformer-{package}" / "src" / f"oneformer_{package}"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "plugin.py").write_text("")
        set_version(tmp_path, package, "0.2.0")
    write(tmp_path, "spec", SPEC)
    write(tmp_path, "data", "from oneformer_spec.module import Spec, load\n")
    (tmp_path / "tests").mkdir()
    return tmp_path


def write(workspace: Path, package: str, text: str) -> None:
    (workspace / "packages" / f"oneformer-{package}" / "src" / f"oneformer_{package}" / "module.py").write_text(text)


def set_version(workspace: Path, package: str, stated: str) -> None:
    file = workspace / "packages" / f"oneformer-{package}" / "pyproject.toml"
    file.write_text(f'[project]\nversion = "{stated}"\n')


@pytest.mark.parametrize("package", ARROWS)
def test_what_siblings_import_is_as_released_or_the_minor_version_is_higher(repository: Path, package: str) -> None:
    assert not problems(repository, package)


def test_every_requirement_on_a_package_accepts_its_version_and_not_the_next_minor_one(repository: Path) -> None:
    files = [*repository.glob("packages/*/pyproject.toml"), *repository.glob("examples/*/pyproject.toml")]
    assert len(files) > len(ARROWS)
    for file in files:
        project = tomllib.loads(file.read_text())["project"]
        lists = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
        for requirement in (Requirement(line) for lines in lists for line in lines):
            if requirement.name.startswith("oneformer-"):
                accepted = bounds(version(repository, requirement.name.removeprefix("oneformer-")))
                assert requirement.specifier == Requirement(f"x{accepted}").specifier, f"{file}: expected {accepted}"


def test_what_is_not_released_may_change(workspace: Path) -> None:
    write(workspace, "spec", SPEC.replace("task=None", "task"))
    assert not problems(workspace, "spec")


def test_an_interface_lists_parameters_fields_and_the_classes_of_fields(workspace: Path) -> None:
    module = "oneformer_spec.module"
    assert interface(workspace, "spec") == [
        f"{module}.Section(lr, steps=)",
        f"{module}.Spec(train)",
        f"{module}.load(files, *, task=)",
    ]
    assert interface(workspace, "data") == []


def test_modules_root_names_and_targets_of_plugins_count_as_imports(workspace: Path) -> None:
    root = workspace / "packages" / "oneformer-spec" / "src" / "oneformer_spec" / "__init__.py"
    root.write_text("if TYPE_CHECKING:\n    from oneformer_spec.module import load\n")
    write(workspace, "data", "from oneformer_spec import load, module as m\nm.unused(1)\n")
    write(workspace, "cli", 'TARGET = "oneformer_spec.module:Section"\n')
    assert interface(workspace, "spec") == [
        "oneformer_spec.load",
        "oneformer_spec.module.Section(lr, steps=)",
        "oneformer_spec.module.load(files, *, task=)",
        "oneformer_spec.module.unused(value)",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def load(files, ", "def load(paths, "),
        ("    steps: int = 10", "    steps: int = 10\n    warmup: int = 0"),
        ("def load", "def load_spec"),
    ],
)
def test_a_change_after_the_release_asks_for_a_minor_version(workspace: Path, before: str, after: str) -> None:
    assert release(workspace, "spec") == "oneformer-spec-v0.2.0"
    write(workspace, "spec", SPEC.replace(before, after))
    found = problems(workspace, "spec")
    assert found[0].endswith(
        "set its version to 0.3.0 and its siblings' bounds to oneformer-spec>=0.3,<0.4 in the same commit"
    )
    assert any(line.startswith("+ oneformer_spec.module.") for line in found)
    with pytest.raises(SystemExit, match="is released"):
        release(workspace, "spec")
    set_version(workspace, "spec", "0.2.1")
    assert problems(workspace, "spec")
    set_version(workspace, "spec", "0.3.0")
    assert not problems(workspace, "spec")
    assert release(workspace, "spec") == "oneformer-spec-v0.3.0"


def test_what_no_sibling_imports_changes_freely_after_a_release(workspace: Path) -> None:
    release(workspace, "spec")
    write(workspace, "spec", SPEC.replace("def unused(value)", "def renamed()"))
    assert not problems(workspace, "spec")


def test_a_package_is_released_after_those_that_it_needs(workspace: Path) -> None:
    with pytest.raises(SystemExit, match=r"oneformer-data needs oneformer-spec>=0\.2,<0\.3: release that first"):
        release(workspace, "data")
    assert not (workspace / NOTES).exists()
    release(workspace, "spec")
    release(workspace, "data")
    assert {name: stated for name, (stated, _) in released(workspace).items()} == {"spec": "0.2.0", "data": "0.2.0"}
