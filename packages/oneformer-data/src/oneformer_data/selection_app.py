"""Options of the commands that look at annotated data: a spec, or the files themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecFiles = Annotated[
    list[Path] | None,
    typer.Option("-e", "--experiment_spec", metavar="FILE", help="Spec file; may be repeated, later files win."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that win over the files, such as dataset.label_map=FILE."),
]
Annotations = Annotated[
    str | None, typer.Option(metavar="FILE", help="Annotations to look at instead of the splits of a spec.")
]
Images = Annotated[str | None, typer.Option(metavar="FOLDER", help="Where their image names start from.")]
Panoptic = Annotated[str | None, typer.Option(metavar="FOLDER", help="PNG maps of COCO panoptic annotations.")]
LabelMap = Annotated[str | None, typer.Option(metavar="FILE", help="JSON list of {id, name, isthing, color}.")]
Type = Annotated[str | None, typer.Option(help="Format of the annotations, where their name does not tell.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the findings to FILE; - for stdout.")]


def write_json(document: object, path: str) -> None:
    """Write a document, or print it where the path is -."""
    import json

    from oneformer_spec.atomic import write_output

    text = json.dumps(document, indent=1, ensure_ascii=False)
    if path == "-":
        typer.echo(text)
    else:
        write_output(path, text)
