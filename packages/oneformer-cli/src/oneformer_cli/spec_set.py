"""`oneformer spec set`: change values in a spec file, preserving comments, order and quotes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Change a spec file in place.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Make `set` a subcommand; Typer drops the name of an app's only command otherwise."""


@app.command("set")
def set_fields(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The YAML or JSON file to change.")],
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE", help="New values, such as train.num_epochs=10.")
    ],
) -> None:
    """Change values in a spec file; if a value is invalid, the file is left alone and the exit code is 2."""
    from oneformer_spec.documents.edit import set_values

    set_values(file, settings)
