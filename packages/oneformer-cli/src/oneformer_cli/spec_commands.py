"""`oneformer get-spec`, `get-schema` and `validate`: print a spec or its schema, and check specs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oneformer_spec.commands.exit import note, report
from oneformer_spec.errors import DataError, UsageError
from oneformer_spec.plugins.packages import VERB_PACKAGES
from oneformer_spec.plugins.registry import registry, resolve

if TYPE_CHECKING:
    from oneformer_spec.schema import Spec

get_spec = typer.Typer(add_completion=False)
get_schema = typer.Typer(add_completion=False)
validate = typer.Typer(add_completion=False)

DATA_PROBLEMS = "oneformer_data.tools.check:problems"
"""`problems(spec)` yields one line per problem in the data; it is part of oneformer-data."""


class Format(StrEnum):
    """Output formats of `get-spec`."""

    YAML = "yaml"
    JSON = "json"


@get_spec.command()
def print_spec(
    task: Annotated[str, typer.Argument(help="The task whose spec to print, such as train.")],
    format: Annotated[Format, typer.Option("--format", help="Commented YAML, or JSON.")] = Format.YAML,
    everything: Annotated[bool, typer.Option("--all", help="Print every field of every task.")] = False,
) -> None:
    """Print a spec to edit: the fields that a task uses, with their defaults."""
    from oneformer_spec.documents.template import render_spec

    print(render_spec(task, format=format.value, everything=everything), end="")


@get_schema.command()
def print_schema(
    task: Annotated[str | None, typer.Argument(help="Also require the fields that this task needs.")] = None,
) -> None:
    """Print the JSON Schema of specs, for use in editors."""
    from oneformer_spec.documents.editor_schema import json_schema

    print(json.dumps(json_schema(task), indent=2))


@validate.command()
def check_spec(
    experiment_spec: Annotated[
        list[Path],
        typer.Option(
            "-e",
            "--experiment_spec",
            metavar="FILE",
            help="Spec file; may be repeated, later files override earlier ones.",
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that override the files.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Also check that everything this task needs is there, files included.")
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Also read all images and annotations of every split in the spec.")
    ] = False,
) -> None:
    """Check a spec without running anything.

    Exit code 0 if the spec is valid, 2 if not (one line per mistake), 1 if the data has problems (one line each).
    """
    from oneformer_spec.commands.unavailable import check_available
    from oneformer_spec.loading.load import load_spec
    from oneformer_spec.loading.task_files import required_paths

    if task is not None and task not in registry().commands:
        required_paths(task)  # raises if it is not a task
    problems_of = _data_problems() if data else None
    loaded = load_spec(experiment_spec, overrides or (), task=task)
    for line in loaded.notes:
        note(line)
    if task is not None:
        check_available(loaded.spec, task)
    files = ", ".join(map(str, experiment_spec))
    if problems_of is not None and (count := _report_all(problems_of(loaded.spec))):
        raise DataError(f"{files}: {count} problem{'s' * (count > 1)} in the data")
    print(f"{files}: valid{f' for {task}' if task else ''}{', and so is its data' if data else ''}")


def _data_problems() -> Callable[[Spec], Iterable[str]]:
    """Return the function that yields the problems in a spec's data.

    Raises:
        UsageError: oneformer-data is not installed.
    """
    if "dataset" not in registry().commands:
        package = VERB_PACKAGES["dataset"]
        raise UsageError(f"--data needs {package}; install it with: python -m pip install '{package}'")
    problems_of: Callable[[Spec], Iterable[str]] = resolve(DATA_PROBLEMS)
    return problems_of


def _report_all(problems: Iterable[str]) -> int:
    """Print each problem as it is found, clearing the progress line of a terminal first, and return their number."""
    count = 0
    for problem in problems:
        report(f"\r\033[K{problem}" if sys.stderr.isatty() else problem)
        count += 1
    return count
