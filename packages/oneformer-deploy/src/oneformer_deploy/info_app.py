"""The Typer app of the command `info`; the only module here that imports typer, which comes with oneformer-cli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx, .etlt or .engine file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show a model file's labels, sizes and thresholds, and what an engine was built for.

    The key of an encrypted file is read from ONEFORMER_ENCRYPTION_KEY.
    """
    from oneformer_deploy.info import print_info

    print_info(file, as_json=as_json)
