"""A folder that holds a package of examples/ as an installer leaves it, and command lines run beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path


def install(example: Path, folder: Path) -> Path:
    """Copy a package into a folder: its modules, and metadata from its pyproject.toml; return the folder."""
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    for package in (path.parent for path in example.glob("*/__init__.py")):
        shutil.copytree(package, folder / package.name)
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    lines = [f"{key}: {project[key.lower()]}" for key in ("Name", "Version")]
    (metadata / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
    points = [f"{name} = {value}" for name, value in project["entry-points"]["oneformer"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[oneformer]", *points, ""]))
    return folder


def python(site: Path | None, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python where a package is installed, or without it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(site)} if site is not None else {})
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def oneformer(site: Path | None, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command line where a package is installed, or without it."""
    return python(site, "-m", "oneformer_cli", *words, folder=folder)


def shown(page: Path) -> list[str]:
    """Return the blocks of code of a page of the documentation."""
    return re.findall(r"(?ms)^```\w+\n(.*?)^```$", page.read_text())
