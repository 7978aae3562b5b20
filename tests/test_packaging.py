"""The six pyproject.toml files, constraints.txt and the changelogs agree with each other."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points, version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PACKAGES = ("spec", "data", "model", "train", "deploy", "cli")
NOT_PINNED = {"tensorrt"}  # no session installs it: it builds on a GPU alone


def folder(repository: Path, package: str) -> Path:
    return repository / "packages" / f"oneformer-{package}"


def project(repository: Path, package: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder(repository, package) / "pyproject.toml").read_text())["project"]
    return table


def foreign_requirements(repository: Path, package: str) -> list[Requirement]:
    table = project(repository, package)
    lines = chain(table["dependencies"], *table.get("optional-dependencies", {}).values())
    return [Requirement(line) for line in lines if not line.startswith("oneformer-")]


def pins(repository: Path) -> dict[str, Version]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    rows = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(pinned) for name, pinned in rows}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_dependency_has_a_lower_bound_only_and_its_pin_satisfies_it(repository: Path, package: str) -> None:
    pinned = pins(repository)
    for requirement in foreign_requirements(repository, package):
        assert [part.operator for part in requirement.specifier] == [">="], requirement
        if requirement.name not in NOT_PINNED:
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("package", PACKAGES)
def test_the_changelog_begins_with_the_version_and_its_date(repository: Path, package: str) -> None:
    changelog = (folder(repository, package) / "CHANGELOG.md").read_text()
    headings = re.findall(r"(?m)^## (.*)", changelog)
    assert re.fullmatch(rf"{re.escape(project(repository, package)['version'])} \(\d{{4}}-\d\d-\d\d\)", headings[0])
    assert set(re.findall(r"(?m)^### (.*)", changelog)) <= {"Added", "Changed", "Fixed"}
    newest = changelog.partition(f"## {headings[0]}")[2].partition("\n## ")[0]
    assert re.search(r"(?m)^- \S", newest), "the changelog lists no change"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_version_is_the_stated_one(repository: Path, package: str) -> None:
    stated = project(repository, package)["version"]
    assert version(f"oneformer-{package}") == stated, "the environment is older than pyproject.toml: install again"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_carries_the_licence(repository: Path, package: str) -> None:
    assert (folder(repository, package) / "LICENSE").read_text() == (repository / "LICENSE").read_text()


def test_each_package_is_one_plugin() -> None:
    found = {point.name: point.dist.name for point in entry_points(group="oneformer") if point.dist is not None}
    assert found == {package: f"oneformer-{package}" for package in PACKAGES}


def test_each_version_is_pinned_once(repository: Path) -> None:
    lines = [line for line in (repository / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(pins(repository)) == len(lines)
