"""Exit with an error unless all packages are installed as wheels here, complete, and found as plugins."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from pathlib import Path

from oneformer_data.training.tokenizer import tokenize
from oneformer_spec.plugins.registry import registry

PACKAGES = ("spec", "data", "model", "train", "deploy", "cli")

for package in PACKAGES:
    folder = Path(str(importlib.import_module(f"oneformer_{package}").__file__)).parent
    if not folder.is_relative_to(sysconfig.get_path("purelib")):
        sys.exit(f"{folder} is not where wheels are installed")
    if not (folder / "py.typed").is_file():
        sys.exit(f"{folder} has no py.typed")
if registry().warnings or len(registry().plugins) != len(PACKAGES):
    sys.exit(f"not all plugins load: {registry().plugins}")
if tokenize("The task is panoptic")[0] != 49406:
    sys.exit("the tokenizer's vocabulary is not that of the wheel")
print(f"wheels bring the commands {', '.join(registry().commands)}")
