"""The command `dataset`: its Typer app. Nothing else here imports typer, which comes with oneformer-cli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at annotated data.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Keep `show` a word of its own: a Typer app of one command would swallow it."""


@app.command()
def show(
    experiment_spec: Annotated[
        list[Path],
        typer.Option("-e", "--experiment_spec", metavar="FILE", help="Spec file; may be repeated, later files win."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that win over the files.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("results/show"),
    count: Annotated[int, typer.Option(min=1, help="Number of examples.")] = 16,
) -> None:
    """Draw the first examples that training sees: augmented image, targets of the task, texts."""
    from oneformer_data.show import draw_examples
    from oneformer_spec.entry import note
    from oneformer_spec.load import load_spec

    loaded = load_spec(experiment_spec, overrides or ())
    for line in loaded.notes:
        note(line)
    paths = draw_examples(loaded.spec, output, count)
    typer.echo(f"{output}: {len(paths)} examples")
