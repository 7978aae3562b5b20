"""With all packages installed, no page of help imports anything that takes time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oneformer_spec.plugins.packages import VERB_PACKAGES
from oneformer_spec.plugins.registry import registry

HEAVY = {"torch", "numpy", "yaml", "ruamel", "PIL", "rich", "lightning", "pytorch_lightning", "scipy", "onnxruntime"}

RUN_AND_LIST_MODULES = """
import sys
from oneformer_cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize("command", [None, *registry().commands])
def test_help_is_printed_and_imports_nothing_heavy(command: str | None) -> None:
    words = [command, "-h"] if command else ["--help"]
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_MODULES, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: oneformer {command or ''}".strip())
    assert HEAVY.isdisjoint(done.stderr.split()), HEAVY & set(done.stderr.split())


def test_every_known_verb_is_installed() -> None:
    assert registry().warnings == ()
    assert set(VERB_PACKAGES) <= set(registry().commands)
