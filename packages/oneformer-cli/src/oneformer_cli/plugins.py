"""`oneformer plugins`: list installed plugin packages, what each registers, and which are broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from oneformer_spec.errors import OneFormerError, PluginError
from oneformer_spec.hooks import Command
from oneformer_spec.plugins.discovery import KINDS
from oneformer_spec.plugins.entries import part_name
from oneformer_spec.plugins.option_types import option_types
from oneformer_spec.plugins.registry import Registry, registry, resolve

app = typer.Typer(add_completion=False)


@app.command()
def plugins(
    check: Annotated[
        bool, typer.Option("--check", help="Load everything they declare, and report what is wrong and how to fix it.")
    ] = False,
) -> None:
    """List the installed plugins and what each provides.

    With --check, the exit code is 1 if there is a problem with any of them.
    """
    if not check:
        print("\n".join(report(registry())))
        return
    found = list(problems(registry()))
    for line in found:
        print(line)
    if found:
        raise PluginError(f"{len(found)} problem{'s' * (len(found) > 1)} in plugins")
    print("everything that the installed plugins declare can be loaded")


def problems(found: Registry) -> Iterator[str]:
    """Load every target and options class that plugins declare; yield one line per problem, with its fix."""
    yield from found.warnings
    yield from found.notes
    for kind in KINDS:
        failures = option_types(kind).failures
        for name, declaration in found.table(kind).items():
            plugin = found.owner(kind, name)
            cure = f"; python -m pip uninstall {plugin.distribution}" if plugin is not None else ""
            lines = [failures[name]] if name in failures else []
            lines += [reason for target in _targets(declaration) if (reason := _problem(declaration, target))]
            yield from (f"{part_name(kind, name)}: {line}{cure}" for line in lines)


def _targets(declaration: Any) -> Iterator[str]:
    for field in ("target", "targets", "decode"):
        target = getattr(declaration, field, "")
        if ":" in target:  # a task may instead name another task to decode like
            yield target


def _problem(declaration: Any, target: str) -> str | None:
    """Return why a target cannot be used, or None."""
    try:
        loaded = resolve(target)
    except PluginError as error:
        return str(error)
    except OneFormerError:  # an optional library is not installed; the command reports it when it needs it
        return None
    if isinstance(declaration, Command) and declaration.kind == "app":
        return None if isinstance(loaded, typer.Typer) else f"{target}: must be a Typer app, found {loaded!r}"
    return None if callable(loaded) else f"{target}: must be callable, found {loaded!r}"


def report(found: Registry) -> list[str]:
    """Return the listing: one line per package, and below it its broken entry points and what it registers by kind."""
    lines: list[str] = []
    for distribution, label in dict((plugin.distribution, plugin.label) for plugin in found.plugins).items():
        own = [plugin for plugin in found.plugins if plugin.distribution == distribution]
        lines.append(f"{label}  ({sum(plugin.seconds for plugin in own):.2f} s)")
        if own[0].requires:
            lines.append(f"  {'requires:':<12}{', '.join(own[0].requires)}")
        lines += [f"  note: {note}" for plugin in own for note in plugin.notes()]
        lines += [f"  broken: {plugin.module}: {plugin.failure}" for plugin in own if plugin.failure is not None]
        for kind, names in _declared(found, distribution).items():
            lines.append(f"  {kind + 's:':<12}{', '.join(sorted(names))}")
    return lines


def _declared(found: Registry, distribution: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for (kind, name), owner in found.owners.items():
        if owner == distribution:
            names.setdefault(kind, []).append(name)
    return names
