"""The developer's commands: which there are, which run by default, and that uv installs from where pip would."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("nox", reason="nox is what runs these tests, but this environment does not hold it")


@pytest.fixture(scope="module")
def noxfile(repository: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("noxfile", repository / "noxfile.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def pip_of_a_company(noxfile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure pip by a file and by an environment variable, and uv, which is not looked for, not at all."""
    monkeypatch.setattr(noxfile, "find_uv", lambda: None)
    noxfile.uv_settings.cache_clear()
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://pypi.example/simple\nextra-index-url =\n  file:///first\n  file:///second\n"
        "timeout = 5\n[install]\nfind-links = /wheels /more-wheels\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TIMEOUT", "180")


@pytest.mark.usefixtures("pip_of_a_company")
def test_uv_gets_the_settings_of_pip(noxfile: ModuleType) -> None:
    settings = noxfile.uv_settings()
    assert settings["UV_DEFAULT_INDEX"] == "https://pypi.example/simple"
    assert settings["UV_INDEX"] == "file:///first file:///second"
    assert settings["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert settings["UV_FIND_LINKS"] == "/wheels,/more-wheels"
    assert settings["UV_HTTP_TIMEOUT"] == "180"
    assert settings["UV_PYTHON_DOWNLOADS"] == "never"
    assert settings["PYTHONDONTWRITEBYTECODE"] == ""


@pytest.mark.usefixtures("pip_of_a_company")
def test_what_the_user_told_uv_stays(noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert "UV_DEFAULT_INDEX" not in noxfile.uv_settings()


def test_a_package_comes_with_the_siblings_that_it_needs_and_no_other(noxfile: ModuleType) -> None:
    assert noxfile.with_siblings("train") == ["spec", "data", "model", "train"]
    assert noxfile.with_siblings("deploy") == ["spec", "deploy"]
    assert noxfile.editable("cli")[-1] == str(noxfile.ROOT / "packages" / "oneformer-cli")


def test_all_sessions_but_those_that_take_long_or_change_files_run_by_default(repository: Path) -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "nox", "-l"], capture_output=True, text=True, check=True, cwd=repository
    ).stdout
    rows = [line.split(" -> ") for line in listing.splitlines() if line[:2] in ("* ", "- ")]
    slow = {"- format", "- engines", "- parity", "- demo", "- docs", "- constraints"}
    assert {name for name, _ in rows if name.startswith("- ")} == slow
    packages = [name[len("* tests(") : -1] for name, _ in rows if name.startswith("* tests(")]
    assert packages == ["spec", "data", "model", "train", "deploy", "cli"]
