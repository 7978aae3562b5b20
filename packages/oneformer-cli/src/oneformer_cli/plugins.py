"""`oneformer plugins`: which distributions are installed, what each registers, and which are broken."""

from __future__ import annotations

import typer

from oneformer_spec.plugins.registry import Registry, registry

app = typer.Typer(add_completion=False)


@app.command()
def plugins() -> None:
    """List the installed plugins and what each brings."""
    print("\n".join(report(registry())))


def report(found: Registry) -> list[str]:
    """Return the listing: a line per distribution, under it one per broken entry point and per kind of declaration."""
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
