"""The `oneformer` command: list the commands of all installed packages, and import one only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from oneformer_cli.commands import HELP_NAMES, add_app, add_missing, add_task
from oneformer_spec.commands.exit import note, run_reporting
from oneformer_spec.plugins.packages import VERB_PACKAGES
from oneformer_spec.plugins.registry import Registry, registry


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (by default the process's arguments) and exit with its code."""
    sys.exit(run_reporting(lambda: run(registry(), arguments)))


def run(found: Registry, arguments: Sequence[str] | None = None) -> None:
    """Print notes about broken or slow plugins, then run a command line; always raises SystemExit."""
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in found.notes:
        note(line)
    command = typer.main.get_command(application(found))
    command.main(args=arguments, prog_name="oneformer")


def application(found: Registry) -> typer.Typer:
    """Build the Typer app: every declared command, then our own commands whose package is not installed."""
    app = typer.Typer(
        name="oneformer",
        no_args_is_help=True,
        rich_markup_mode=None,  # plain text; anything else imports rich to print a page of help
        context_settings={"help_option_names": HELP_NAMES},
    )
    app.callback(help="Universal image segmentation. Every command also takes --debug: show an error's traceback.")(
        _root
    )
    for command in found.commands.values():
        add = add_task if command.kind == "task" else add_app
        add(app, command)
    for verb in VERB_PACKAGES:
        if verb not in found.commands:
            add_missing(app, verb, f"Not installed; comes with {VERB_PACKAGES[verb]}.", found)
    for kind, name in found.clashes:
        if kind == "command":
            add_missing(app, name, "Disabled: two plugins declare it.", found)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"oneformer-cli {version('oneformer-cli')}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
