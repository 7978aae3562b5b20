"""`oneformer get-spec`, `get-schema` and `validate`: what a spec may say, and whether one is right."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from oneformer_spec.commands.exit import note, report
from oneformer_spec.errors import DataError
from oneformer_spec.plugins.registry import registry, resolve

get_spec = typer.Typer(add_completion=False)
get_schema = typer.Typer(add_completion=False)
validate = typer.Typer(add_completion=False)


class Format(StrEnum):
    """How `get-spec` prints."""

    YAML = "yaml"
    JSON = "json"


@get_spec.command()
def print_spec(
    task: Annotated[str, typer.Argument(help="The task whose spec to print, such as train.")],
    format: Annotated[Format, typer.Option("--format", help="Commented YAML, or JSON.")] = Format.YAML,
    everything: Annotated[bool, typer.Option("--all", help="Every field of every task.")] = False,
) -> None:
    """Print a spec to edit: the fields of a task with their defaults."""
    from oneformer_spec.documents.template import render_spec

    print(render_spec(task, format=format.value, everything=everything), end="")


@get_schema.command()
def print_schema(
    task: Annotated[str | None, typer.Argument(help="Also require what this task cannot start without.")] = None,
) -> None:
    """Print the JSON Schema of specs, for editors."""
    from oneformer_spec.loading.json_schema import json_schema

    print(json.dumps(json_schema(task), indent=2))


@validate.command()
def check_spec(
    experiment_spec: Annotated[
        list[Path],
        typer.Option("-e", "--experiment_spec", metavar="FILE", help="Spec file; may be repeated, later files win."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that win over the files.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Also check what this task needs, files included.")] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Also read all images and annotations of every split that is set.")
    ] = False,
    checks: Annotated[
        list[str] | None, typer.Option("--check", metavar="NAME", help="Also run a check of a plugin; may be repeated.")
    ] = None,
) -> None:
    """Check a spec without running anything.

    Exit code 0 if it is right, 2 with a line per mistake if not; 1 with a line per problem of the data.
    """
    from oneformer_spec.commands.unavailable import check_available
    from oneformer_spec.loading.load import load_spec
    from oneformer_spec.loading.task_files import required_paths

    if task is not None and task not in registry().commands:
        required_paths(task)  # refuses what is no task
    names = dict.fromkeys([*(["data"] if data else []), *(checks or [])])
    chosen = [registry().check(name) for name in names]
    loaded = load_spec(experiment_spec, overrides or (), task=task)
    for line in loaded.notes:
        note(line)
    if task is not None:
        check_available(loaded.spec, task)
    files = ", ".join(map(str, experiment_spec))
    for check in chosen:
        if found := _count_reported(resolve(check.target)(loaded.spec)):
            where = "in the data" if check.name == "data" else f"found by the check {check.name}"
            raise DataError(f"{files}: {found} problem{'s' * (found > 1)} {where}")
    passed = "".join(", and so is its data" if name == "data" else f"; {name} finds no problem" for name in names)
    print(f"{files}: valid{f' for {task}' if task else ''}{passed}")


def _count_reported(problems: Iterable[str]) -> int:
    """Print every problem as it is found, over the line of progress that a terminal shows, and return their number."""
    found = 0
    for problem in problems:
        report(f"\r\033[K{problem}" if sys.stderr.isatty() else problem)
        found += 1
    return found
