"""What the packages import of one another, compared with what it was when they were last released.

A released package must work beside every newer sibling that its bounds accept. So what siblings import of a package
(names, parameters, fields, methods) changes only together with its minor version, which the siblings' bounds follow.

`python docs/interfaces.py PACKAGE` checks a package, notes its interface as released, and prints the tag to set; the
session `release` runs it.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from rooms import ARROWS, modules

ROOT = Path(__file__).resolve().parents[1]
NOTES = Path("tests") / "released_interfaces.txt"
HEADER = "# What siblings imported of each package when it was last released. `nox -s release` writes this file."
TARGET = re.compile(r"(oneformer_\w+(?:\.\w+)*):(\w+)")  # how plugins name what to import
Trees = Mapping[str, ast.Module]


def version(repository: Path, package: str) -> str:
    """Return the version that a package's pyproject.toml states."""
    file = repository / "packages" / f"oneformer-{package}" / "pyproject.toml"
    return str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"])


def bounds(stated: str) -> str:
    """Return the versions that siblings accept of a package.

    >>> bounds("0.2.1")
    '>=0.2,<0.3'
    """
    major, minor = _minor(stated)
    return f">={major}.{minor},<{major}.{minor + 1}"


def problems(repository: Path, package: str) -> list[str]:
    """Return what changed since the release in what siblings import of a package; nothing if its minor version rose."""
    then, before = released(repository).get(package, ("", []))
    stated, now = version(repository, package), interface(repository, package)
    if not then or now == before or _minor(stated) > _minor(then):
        return []
    changes = [f"- {line}" for line in before if line not in now] + [f"+ {line}" for line in now if line not in before]
    major, minor = _minor(then)
    following = f"{major}.{minor + 1}.0"
    return [
        f"oneformer-{package} {then} is released, and what its siblings import of it has changed since; set its "
        f"version to {following} and its siblings' bounds to oneformer-{package}{bounds(following)} in the same commit",
        *changes,
    ]


def interface(repository: Path, package: str) -> list[str]:
    """Return what siblings import of a package, and what they reach from there, a line each."""
    trees = _trees(repository)
    lines: set[str] = set()
    for module, name in _imported(trees, f"oneformer_{package}"):
        _describe(trees, module, name, lines)
    return sorted(lines)


def released(repository: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the version and the interface of each package at its last release."""
    file = repository / NOTES
    blocks = file.read_text(encoding="utf-8").split("\n\n")[1:] if file.exists() else []
    found = {}
    for heading, *lines in (block.strip().splitlines() for block in blocks):
        name, stated = heading.split()
        found[name.removeprefix("oneformer-")] = stated, lines
    return found


def release(repository: Path, package: str) -> str:
    """Note a package's interface as released and return its tag.

    Raises:
        SystemExit: The version must be raised first, or a sibling that the package needs must be released first.
    """
    notes, stated = released(repository), version(repository, package)
    found = problems(repository, package)
    for sibling in sorted(ARROWS[package]):
        newest = version(repository, sibling)
        if sibling not in notes or _minor(notes[sibling][0]) != _minor(newest):
            found.append(f"oneformer-{package} needs oneformer-{sibling}{bounds(newest)}: release that first")
    if found:
        sys.exit("\n".join(found))
    notes[package] = stated, interface(repository, package)
    blocks = ["\n".join([f"oneformer-{name} {notes[name][0]}", *notes[name][1]]) for name in ARROWS if name in notes]
    (repository / NOTES).write_text("\n\n".join([HEADER, *blocks]) + "\n", encoding="utf-8")
    return f"oneformer-{package}-v{stated}"


def _minor(stated: str) -> tuple[int, int]:
    major, minor = stated.split(".")[:2]
    return int(major), int(minor)


def _trees(repository: Path) -> Trees:
    """Return the syntax trees of all packages by the full names of their modules."""
    files: dict[str, Path] = {}
    for package in ARROWS:
        root = repository / "packages" / f"oneformer-{package}" / "src" / f"oneformer_{package}"
        files[root.name] = root / "__init__.py"
        files |= {f"{root.name}.{name}": file for name, file in modules(repository, package).items()}
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in files.items()}


def _imported(trees: Trees, package: str) -> Iterator[tuple[str, str]]:
    """Yield what other packages import of one: the module and the name in it."""
    for importer, tree in trees.items():
        if importer.partition(".")[0] == package:
            continue
        for node in ast.walk(tree):
            match node:
                case ast.ImportFrom(module=str(module)) if module.partition(".")[0] == package:
                    for alias in node.names:
                        whole = f"{module}.{alias.name}"
                        names = _attributes(tree, alias.asname or alias.name) if whole in trees else ()
                        yield from ((whole, name) for name in names)
                        if whole not in trees:
                            yield module, alias.name
                case ast.Constant(value=str(text)) if (target := TARGET.fullmatch(text)) and text.startswith(package):
                    yield target[1], target[2]


def _attributes(tree: ast.Module, module: str) -> set[str]:
    """Return the names that are looked up in an imported module."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return {node.attr for node in found if isinstance(node.value, ast.Name) and node.value.id == module}


def _describe(trees: Trees, module: str, name: str, lines: set[str]) -> None:
    """Add the lines of a name: a function's parameters; a class's fields, methods, and the classes of its fields."""
    for node in ast.walk(trees[module]) if module in trees else ():
        match node:
            case ast.FunctionDef() if node.name == name and node in trees[module].body:
                lines.add(f"{module}.{name}({_parameters(node.args)})")
                return
            case ast.ClassDef() if node.name == name:
                _describe_class(trees, module, node, lines)
                return
            case ast.ImportFrom(module=str(home)) if home.partition(".")[0] == module.partition(".")[0]:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        lines.add(f"{module}.{name}")
                        _describe(trees, home, alias.name, lines)
                        return
    lines.add(f"{module}.{name}")


def _describe_class(trees: Trees, module: str, node: ast.ClassDef, lines: set[str]) -> None:
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    shown = ", ".join(f"{ast.unparse(part.target)}{'=' if part.value else ''}" for part in fields)
    line = f"{module}.{node.name}({shown})"
    if line in lines:
        return
    lines.add(line)
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and (not part.name.startswith("_") or part.name == "__init__"):
            lines.add(f"{module}.{node.name}.{part.name}({_parameters(part.args)})")
    reached = [*node.bases, *(part.annotation for part in fields)]
    local = _classes(trees, module)
    for name in {part.id for whole in reached for part in ast.walk(whole) if isinstance(part, ast.Name)}:
        if name in local:
            _describe(trees, module, name, lines)


def _classes(trees: Trees, module: str) -> set[str]:
    """Return the names in a module that may be classes of its own package."""
    package = module.partition(".")[0]
    names = {node.name for node in trees[module].body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(trees[module]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == package:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _parameters(arguments: ast.arguments) -> str:
    """Return parameters as `a, b=, *, c`: a name with `=` may be left out.

    >>> _parameters(ast.parse("lambda a, b=1, *, c: 0").body[0].value.args)
    'a, b=, *, c'
    """
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    shown = [f"{one.arg}{'=' if number >= required else ''}" for number, one in enumerate(plain)]
    shown = [name for name in shown if name not in ("self", "cls")]
    if arguments.vararg or arguments.kwonlyargs:
        shown.append(f"*{arguments.vararg.arg if arguments.vararg else ''}")
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    shown += [f"{one.arg}{'=' if default else ''}" for one, default in pairs]
    return ", ".join([*shown, *([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])])


if __name__ == "__main__":
    print(release(ROOT, sys.argv[1].removeprefix("oneformer-")))
