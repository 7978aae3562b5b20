"""The command `info`: its Typer app. Nothing else here imports typer, which comes with oneformer-cli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx, .etlt or .engine file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print what a model file says about itself: labels, sizes, thresholds, and what an engine was built for.

    An encrypted file takes its key from ONEFORMER_ENCRYPTION_KEY.
    """
    from oneformer_deploy.info import print_info

    print_info(file, as_json=as_json)
