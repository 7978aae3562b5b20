"""What docs/generate.py writes is what stands in the repository; `nox -s docs` renews it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from oneformer_spec.hooks import Hooks
from oneformer_spec.plugins.registry import registry
from oneformer_spec.schema.tree import leaves

FILES = ("docs/spec_fields.md", "docs/commands.md", "docs/architecture.md", "tests/public_surface.txt")


@pytest.fixture(scope="module")
def generator(repository: Path) -> dict:
    return runpy.run_path(str(repository / "docs" / "generate.py"))


@pytest.mark.parametrize("file", FILES)
def test_the_file_is_up_to_date(repository: Path, generator: dict, file: str) -> None:
    foreign = {plugin.distribution for plugin in registry().plugins if not plugin.distribution.startswith("oneformer-")}
    if foreign:
        pytest.skip(f"{', '.join(foreign)} adds to what the file lists")
    written = (repository / file).read_text(encoding="utf-8").splitlines()
    assert written == generator["FILES"][file]().splitlines(), f"{file} is stale; run: nox -s docs"


def test_every_generated_file_is_checked(generator: dict) -> None:
    assert set(generator["FILES"]) == set(FILES)


def test_nothing_is_left_out(generator: dict) -> None:
    rows, surface = generator["spec_fields"](), generator["surface"]().splitlines()
    for path in leaves():
        assert f"| `{path}` |" in rows
        assert f"field {path}" in surface
    for name in registry().commands:
        assert f"\n## oneformer {name}\n" in generator["commands"]()
        assert any(f"{line} ".startswith(f"command oneformer {name} ") for line in surface)
    for name in vars(Hooks):
        assert not name.startswith("oneformer_") or any(line.startswith(f"hook {name}: ") for line in surface)
