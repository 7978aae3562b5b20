"""The command `dataset show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneformer_data.selection_app import Overrides


def show(
    experiment_spec: Annotated[
        list[Path],
        typer.Option("-e", "--experiment_spec", metavar="FILE", help="Spec file; may be repeated, later files win."),
    ],
    overrides: Overrides = None,
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
    print(f"{output}: {len(paths)} examples")
