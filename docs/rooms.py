"""The packages, their rooms and floors, and what imports what, read from the syntax trees of all modules."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

# Which sibling packages each package may import.
ARROWS: dict[str, set[str]] = {
    "spec": set(),
    "data": {"spec"},
    "model": {"spec"},
    "train": {"data", "model", "spec"},
    "deploy": {"spec"},
    "cli": {"spec"},
}
# The rooms and top-level modules of each package from the ground up; each imports only what stands below it.
FLOORS = {
    "spec": (
        *("errors", "hooks", "tasks", "labels", "results"),
        *("plugins", "schema", "files", "loading", "documents", "commands", "processes", "segmentation", "pictures"),
        "testing",
    ),
    "data": (
        *("plugin", "sample", "datasets"),
        *("metrics", "opening", "formats", "shards", "training", "testing"),
        *("evaluation", "convert", "tools", "commands"),
    ),
    "model": (
        *("plugin", "network", "backbones", "build"),
        *("adapters", "weights", "runtime", "onnx_export", "testing", "commands"),
    ),
    "train": (
        *("plugin", "processes", "checkpoints", "loss", "batches", "optimisation", "validation", "module"),
        *("network", "plugin_parts", "monitoring", "diagnosis", "callbacks", "trainer", "command", "worker"),
    ),
    "deploy": (
        *("plugin", "extras", "tensor_names", "layer_patterns", "results", "engines", "runtimes", "quantization"),
        *("inference", "gen_trt_engine", "info", "info_app", "__main__"),
    ),
    "cli": ("plugin", "plugins", "spec_set", "spec_commands", "commands", "main", "__main__"),
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


def modules(repository: Path, package: str) -> dict[str, Path]:
    """Return the modules of a package by their dotted names within it; a room's own name is its `__init__`."""
    source = repository / "packages" / f"oneformer-{package}" / "src" / f"oneformer_{package}"
    files = sorted(source.rglob("*.py"))
    found = {file.relative_to(source).with_suffix("").as_posix().replace("/", "."): file for file in files}
    assert found, f"{source} holds no module"
    return {name.removesuffix(".__init__"): file for name, file in found.items() if name != "__init__"}


def upward(repository: Path, package: str) -> list[str]:
    """Return the imports that do not run to a lower floor of their package, with both ends."""
    floors = {name: number for number, name in enumerate(FLOORS[package])}
    known = modules(repository, package)
    found = []
    for name, file in known.items():
        for target in targets(file, f"oneformer_{package}", known):
            here, there = name.partition(".")[0], target.partition(".")[0]
            if here != there and floors[here] <= floors[there]:
                found.append(f"{name} imports {target}")
    return found


def targets(file: Path, package: str, known: Collection[str]) -> Iterator[str]:
    """Yield the modules of its own package that a module imports, by their dotted names within it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == package:
            home = node.module.partition(".")[2]
            names = [f"{home}.{alias.name}".lstrip(".") for alias in node.names]
            yield from (name if name in known else home for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith(f"{package}."))
