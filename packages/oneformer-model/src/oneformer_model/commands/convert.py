"""The Typer app of the command `convert`; typer comes with oneformer-cli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def conversion(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A checkpoint (.pth), a Hugging Face folder, or a file of SHI-Labs or TAO."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A checkpoint (.pth), or a folder for Hugging Face.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            help="oneformer, huggingface or shi-labs; by default chosen by the target's name.", metavar="FORMAT"
        ),
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option(help="JSON list of {id, name, isthing, color}, in the order of the classes.")
    ] = None,
    inference: Annotated[
        bool, typer.Option("--inference", help="Leave out the text branch, which only training needs.")
    ] = False,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt the checkpoint with the key in ONEFORMER_ENCRYPTION_KEY.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Convert weights to another format: a oneformer checkpoint, Hugging Face's or SHI-Labs'."""
    from oneformer_model.weights import conversion
    from oneformer_spec.commands.exit import note
    from oneformer_spec.errors import UsageError

    if to is not None and to not in list(conversion.WeightFormat):
        raise UsageError(f"--to {to}: is not one of {', '.join(conversion.WeightFormat)}")
    chosen = conversion.WeightFormat(to) if to is not None else None
    report = conversion.convert(
        source, target, to=chosen, label_map=label_map, inference=inference, force=force, encrypt=encrypt
    )
    for line in report.notes:
        note(line)
    texts = "with its text branch" if report.has_texts else "without a text branch"
    typer.echo(f"{source}: {report.kind}, {report.num_classes} classes, {texts}")
    typer.echo(f"{target}: {report.format}, {report.num_tensors} tensors")
