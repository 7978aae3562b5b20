"""`oneformer spec set`: change values of a spec file; comments, order and quotes stay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Change a spec file in place.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Keep `set` a word of its own: a Typer app of one command would swallow it."""


@app.command("set")
def set_fields(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The YAML or JSON file to change.")],
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE", help="New values, such as train.num_epochs=10.")
    ],
) -> None:
    """Write values into a spec file: exit code 2 and no change if one is wrong or makes the spec wrong."""
    from oneformer_spec.documents.edit import set_values

    set_values(file, settings)
