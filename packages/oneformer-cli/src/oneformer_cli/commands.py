"""Turn plugins' command declarations into Typer commands, without importing what the commands run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from oneformer_spec.commands.exit import run_reporting
from oneformer_spec.commands.task_command import run_task
from oneformer_spec.errors import PluginError
from oneformer_spec.hooks import Command, Flag
from oneformer_spec.plugins.registry import Registry, resolve

HELP_NAMES = ["-h", "--help"]

# Pass all arguments on unchanged, `--help` included.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

SpecFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "-e", "--experiment_spec", metavar="FILE", help="Spec file; may be repeated, later files override earlier ones."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that override the files, such as train.num_epochs=10."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def add_task(app: typer.Typer, command: Command) -> None:
    """Add a command of kind `task`: it takes spec files and overrides, and calls `run(spec, **flags)`."""

    def callback(
        *, overrides: list[str] | None, experiment_spec: list[Path] | None, debug: bool, **flags: bool
    ) -> None:
        def action() -> None:
            run_task(command, experiment_spec or (), overrides or (), flags)

        raise typer.Exit(run_reporting(action, debug=debug))

    callback.__signature__ = _signature(command.flags)  # type: ignore[attr-defined]
    app.command(command.name, help=command.summary)(callback)


def add_app(app: typer.Typer, command: Command) -> None:
    """Add a command of kind `app`: its Typer app is imported when the command is invoked."""

    def action(arguments: list[str]) -> None:
        from oneformer_spec.plugins.entries import naming_plugin

        with naming_plugin("command", command.name):
            _run_app(command, arguments)

    _add_pass_through(app, command.name, command.summary, action)


def _run_app(command: Command, arguments: list[str]) -> None:
    mounted = resolve(command.target)
    if not isinstance(mounted, typer.Typer):
        raise PluginError(f"{command.target}: command {command.name!r} must be a Typer app, found {mounted!r}")
    mounted.rich_markup_mode = None  # as in `application`
    inner = typer.main.get_command(mounted)
    inner.main(args=arguments, prog_name=f"oneformer {command.name}", help_option_names=HELP_NAMES)


def add_missing(app: typer.Typer, verb: str, summary: str, found: Registry) -> None:
    """Add a command that cannot run: it is listed with its summary, and running it prints what to do about it."""
    _add_pass_through(app, verb, summary, lambda _: found.command(verb))


def _add_pass_through(app: typer.Typer, name: str, summary: str, action: Callable[[list[str]], object]) -> None:
    def callback(context: typer.Context) -> None:
        arguments = [word for word in context.args if word != "--debug"]
        raise typer.Exit(run_reporting(lambda: action(arguments), debug="--debug" in context.args))

    app.command(name, help=summary, add_help_option=False, context_settings=PASS_ON)(callback)


def _signature(flags: Sequence[Flag]) -> Signature:
    options: list[tuple[str, Any, Any]] = [("overrides", Overrides, None), ("experiment_spec", SpecFiles, None)]
    options += [
        (flag.name, Annotated[bool, typer.Option(f"--{flag.name.replace('_', '-')}", help=flag.summary)], False)
        for flag in flags
    ]
    options += [("debug", Debug, False)]
    return Signature(
        [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=value) for name, kind, value in options]
    )
