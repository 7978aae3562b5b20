"""Write what is read off the code: reference pages, the diagrams of architecture.md, and the public surface.

`nox -s docs` runs it with all packages installed; a test fails where a file differs from what it would write. Backbones
and commands of further plugins appear, too, so renew the files where only this repository's packages are installed.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from architecture import architecture
from rooms import FLOORS

from oneformer_cli.commands import HELP_NAMES
from oneformer_cli.main import application
from oneformer_spec import hooks
from oneformer_spec.documents.template import field_table
from oneformer_spec.loading.aliases import ALIASES
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.schema.tree import Section, leaves, spec_tree

ROOT = Path(__file__).resolve().parents[1]
PUBLIC_MODULES = ("hooks", "schema", "build", "testing")  # of whichever package has one
WIDTH = 100  # columns of a page of help


def spec_fields() -> str:
    """Return the page of all fields of the spec, a table per section."""
    page = [
        "# Fields of the spec",
        "",
        "Generated from the schema by `nox -s docs`. [The spec](spec.md) says how to use them.",
    ]
    for section in _sections(spec_tree()):
        own = [child.path for child in section.children.values() if not isinstance(child, Section)]
        if own:
            page += ["", f"## {section.path or 'Top level'}", "", section.help, "", _table(own)]
    page += ["", "## Older spellings", "", "| read | as |", "| --- | --- |"]
    page += [f"| `{alias}` | `{path}` |" for alias, path in ALIASES.items()]
    return "\n".join(page) + "\n"


def commands() -> str:
    """Return the page of help of every command."""
    page = ["# Commands", "", "Generated from the commands' own help by `nox -s docs`."]
    for name, command in _all_commands():
        page += ["", f"## {name}", "", "```text", _help(name, command), "```"]
    return "\n".join(page) + "\n"


def surface() -> str:
    """Return what users and plugins rely on, a line each: commands, hooks, import paths, fields of the spec."""
    lines = ["# What users and plugins rely on. A change here is a decision; renew with: nox -s docs", ""]
    lines += [
        f"command {name}{''.join(f' {option}' for option in _options(command))}" for name, command in _all_commands()
    ]
    lines += ["", *_hooks(), "", *(f"import {path}" for path in import_paths()), ""]
    lines += [f"field {path}" for path in leaves()]
    lines += ["", *(f"alias {alias} = {path}" for alias, path in ALIASES.items())]
    return "\n".join(lines) + "\n"


FILES = {
    "docs/spec_fields.md": spec_fields,
    "docs/commands.md": commands,
    "docs/architecture.md": architecture,
    "tests/public_surface.txt": surface,
}


def _sections(section: Section) -> Iterator[Section]:
    yield section
    for child in section.children.values():
        if isinstance(child, Section):
            yield from _sections(child)


def _table(paths: list[str]) -> str:
    """Join the tables of single fields: the heading of the first, then one row each."""
    tables = [field_table(path).splitlines() for path in paths]
    return "\n".join([*tables[0][:2], *(table[2] for table in tables)])


def _all_commands() -> Iterator[tuple[str, Any]]:
    """Yield every command and subcommand by its words, in the order of the list that `oneformer -h` prints."""
    found = registry()
    root = typer.main.get_command(application(found))
    yield "oneformer", root
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        declared = found.commands.get(name)
        if declared is None or declared.kind == "task":
            yield f"oneformer {name}", command
        else:
            mounted = resolve(declared.target)
            mounted.rich_markup_mode = None
            yield from _nested(f"oneformer {name}", typer.main.get_command(mounted))


def _nested(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from _nested(f"{name} {word}", inner)


def _help(name: str, command: Any) -> str:
    context = command.context_class(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=HELP_NAMES
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield parameter.metavar or parameter.name.upper()
        else:
            yield "/".join(parameter.opts)


def _hooks() -> Iterator[str]:
    for name in sorted(name for name in vars(hooks.Hooks) if name.startswith("oneformer_")):
        yield f"hook {name}: {inspect.signature(getattr(hooks.Hooks, name)).return_annotation}"
    kinds = [kind for kind in vars(hooks).values() if isinstance(kind, type) and is_dataclass(kind)]
    for kind in sorted(kinds, key=lambda kind: kind.__name__):
        names = [
            field.name if field.default is MISSING else f"{field.name}={field.default!r}" for field in fields(kind)
        ]
        yield f"declaration {kind.__name__}({', '.join(names)})"


def import_paths() -> Iterator[str]:
    """Yield the names that may be imported: those of the packages themselves, and those of a few public modules."""
    for package in FLOORS:
        root = import_module(f"oneformer_{package}")
        yield from (f"{root.__name__}.{name}" for name in getattr(root, "__all__", ()))
        for name in PUBLIC_MODULES:
            if find_spec(f"{root.__name__}.{name}"):
                yield from _public(import_module(f"{root.__name__}.{name}"))


def _public(module: ModuleType) -> Iterator[str]:
    """Yield the names of a module's `__all__`, or without one those that it defines without an underscore."""
    tree = ast.parse(inspect.getsource(module))
    named = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assigned = [ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    found = getattr(module, "__all__", None) or [name for name in named + assigned if not name.startswith("_")]
    yield from (f"{module.__name__}.{name}" for name in sorted(found))


if __name__ == "__main__":
    for file, text in FILES.items():
        (ROOT / file).write_text(text(), encoding="utf-8")
