"""Write what is read off the code: reference pages, the diagrams of architecture.md, and the public surface.

`nox -s docs` runs it with all packages installed; a test fails where a file differs from what it would write. Backbones
and commands of further plugins appear, too, so renew the files where only this repository's packages are installed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import typer
from architecture import architecture

from oneformer_cli.commands import HELP_NAMES
from oneformer_cli.main import application
from oneformer_spec import hooks
from oneformer_spec.documents.template import field_table
from oneformer_spec.loading.aliases import ALIASES
from oneformer_spec.plugins.registry import registry, resolve
from oneformer_spec.schema.tree import Section, leaves, spec_tree

ROOT = Path(__file__).resolve().parents[1]
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
    """Return what users and plugins rely on, a line each: commands with their options, hooks, fields of the spec."""
    lines = ["# What users and plugins rely on. A change here is a decision; renew with: nox -s docs", ""]
    lines += [
        f"command {name}{''.join(f' {option}' for option in _options(command))}" for name, command in _all_commands()
    ]
    lines += ["", *_hooks(), ""]
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
    kinds = (hooks.Backbone, hooks.Command, hooks.Dataset, hooks.Evaluator, hooks.Flag)
    for kind in (*kinds, hooks.Quantizer, hooks.Runtime):
        names = [
            field.name if field.default is MISSING else f"{field.name}={field.default!r}" for field in fields(kind)
        ]
        yield f"declaration {kind.__name__}({', '.join(names)})"


if __name__ == "__main__":
    for file, text in FILES.items():
        (ROOT / file).write_text(text(), encoding="utf-8")
