"""`oneformer get-spec`, `get-schema` and `validate`: what a spec may say, and whether one is right."""

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
"""`problems(spec)` yields a line per problem of the data; it comes with the package that brings `oneformer dataset`."""


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
    from oneformer_spec.documents.editor_schema import json_schema

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
) -> None:
    """Check a spec without running anything.

    Exit code 0 if it is right, 2 with a line per mistake if not; 1 with a line per problem of the data.
    """
    from oneformer_spec.commands.unavailable import check_available
    from oneformer_spec.loading.load import load_spec
    from oneformer_spec.loading.task_files import required_paths

    if task is not None and task not in registry().commands:
        required_paths(task)  # refuses what is no task
    problems_of = _data_problems() if data else None
    loaded = load_spec(experiment_spec, overrides or (), task=task)
    for line in loaded.notes:
        note(line)
    if task is not None:
        check_available(loaded.spec, task)
    files = ", ".join(map(str, experiment_spec))
    if problems_of is not None and (found := _count_reported(problems_of(loaded.spec))):
        raise DataError(f"{files}: {found} problem{'s' * (found > 1)} in the data")
    print(f"{files}: valid{f' for {task}' if task else ''}{', and so is its data' if data else ''}")


def _data_problems() -> Callable[[Spec], Iterable[str]]:
    """Return the function that finds the problems of a spec's data.

    Raises:
        UsageError: oneformer-data is not installed.
    """
    if "dataset" not in registry().commands:
        package = VERB_PACKAGES["dataset"]
        raise UsageError(f"--data needs {package}; install it with: python -m pip install '{package}'")
    found: Callable[[Spec], Iterable[str]] = resolve(DATA_PROBLEMS)
    return found


def _count_reported(problems: Iterable[str]) -> int:
    """Print every problem as it is found, over the line of progress that a terminal shows, and return their number."""
    found = 0
    for problem in problems:
        report(f"\r\033[K{problem}" if sys.stderr.isatty() else problem)
        found += 1
    return found
