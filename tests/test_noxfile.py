"""The developer's commands: which there are, which run by default, and what they install."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

pytest.importorskip("nox", reason="nox is what runs these tests, but this environment does not hold it")
from nox.project import load_toml


@pytest.fixture(scope="module")
def noxfile(repository: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("noxfile", repository / "noxfile.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_package_comes_with_the_siblings_that_it_needs_and_no_other(noxfile: ModuleType) -> None:
    assert noxfile.with_siblings("train") == ["spec", "data", "model", "train"]
    assert noxfile.with_siblings("deploy") == ["spec", "deploy"]
    assert noxfile.editable("cli")[-1] == str(noxfile.ROOT / "packages" / "oneformer-cli")


def run_nox(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nox as it is installed here; by itself it would install what the top of the noxfile names."""
    environment = os.environ | {"NOX_SCRIPT_MODE": "none"}
    command = [sys.executable, "-m", "nox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=repository, env=environment)


def test_all_sessions_but_those_that_take_long_or_change_files_run_by_default(repository: Path) -> None:
    listing = run_nox(repository, "-l").stdout
    rows = [line.split(" -> ") for line in listing.splitlines() if line[:2] in ("* ", "- ")]
    by_hand = {"- format", "- engines", "- parity", "- demo", "- docs", "- constraints", "- release"}
    assert {name for name, _ in rows if name.startswith("- ")} == by_hand
    packages = [name[len("* tests(") : -1] for name, _ in rows if name.startswith("* tests(")]
    assert packages == ["spec", "data", "model", "train", "deploy", "cli"]


@pytest.mark.parametrize("names", [[], ["sepc"]])
def test_a_release_names_packages(repository: Path, names: list[str]) -> None:
    done = run_nox(repository, "--no-venv", "-s", "release", "--", *names)
    assert done.returncode == 1
    assert "name the packages: nox -s release -- spec data model train deploy cli" in done.stderr


def test_nox_brings_uv_and_falls_back_on_pip(repository: Path, noxfile: ModuleType) -> None:
    script = load_toml(repository / "noxfile.py")
    assert [Requirement(line).name for line in script["dependencies"]] == ["nox"]
    assert Requirement(script["dependencies"][0]).extras == {"uv"}
    assert script["tool"]["nox"]["script-venv-backend"] == "virtualenv", "pip installs uv, from where pip is configured"
    assert noxfile.nox.options.default_venv_backend == "uv|virtualenv"
