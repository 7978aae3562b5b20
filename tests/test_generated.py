"""What docs/generate.py writes is what stands in the repository; `nox -s docs` renews it."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneformer_spec.hooks import Hooks
from oneformer_spec.plugins.registry import registry
from oneformer_spec.schema.tree import leaves

FILES = ("docs/spec_fields.md", "docs/commands.md", "docs/architecture.md", "tests/public_surface.txt")
OURS = re.compile(r"oneformer_(spec|data|model|train|deploy|cli)\b")


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


def test_what_the_documentation_imports_is_public(repository: Path, generator: dict) -> None:
    public = set(generator["import_paths"]())
    pages = [page for folder in (".", "docs", "packages/*", "examples/*") for page in repository.glob(f"{folder}/*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    blocks = [block for text in texts for block in re.findall(r"(?s)```python\n(.*?)```", text)]
    blocks += [file.read_text(encoding="utf-8") for file in repository.glob("examples/*-plugin/*/*.py")]
    used = {path for block in blocks for path in imports_of(block)}
    assert {"oneformer_spec.load_spec", "oneformer_spec.hooks.hookimpl"} <= used
    assert used <= public, "import these from where tests/public_surface.txt lists them, or make them public"


def imports_of(block: str) -> Iterator[str]:
    """Yield the names that a piece of code imports from our packages, attributes of a package included."""
    for node in ast.walk(ast.parse(block)):
        match node:
            case ast.ImportFrom(module=str(module)) if OURS.match(module):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.Attribute(value=ast.Name(id=str(name))) if OURS.match(name):
                yield f"{name}.{node.attr}"


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
