"""The command `dataset stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneformer_data.selection_app import (
    Annotations,
    Images,
    Json,
    LabelMap,
    Overrides,
    Panoptic,
    SpecFiles,
    Type,
    write_json,
)


def stats(
    overrides: Overrides = None,
    experiment_spec: SpecFiles = None,
    annotations: Annotations = None,
    images: Images = None,
    panoptic: Panoptic = None,
    label_map: LabelMap = None,
    type: Type = None,
    json_file: Json = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the class balance into a PNG file.")
    ] = None,
) -> None:
    """Count images, segments and pixels of each split and class.

    The options stand for dataset.val of a spec.
    """
    from oneformer_data import stats, stats_table
    from oneformer_data.selection import selected
    from oneformer_spec.atomic import write_output
    from oneformer_spec.schema import Split

    data = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    dataset = selected(experiment_spec or (), overrides or (), data=data, label_map=label_map)
    found = stats.stats(dataset)
    if picture is not None:
        from oneformer_data.loading import read_label_map
        from oneformer_data.stats_picture import balance_png

        write_output(picture, balance_png(found, read_label_map(dataset)))
    if json_file is not None:
        write_json({"splits": {name: split.document() for name, split in found.items()}}, json_file)
    if json_file != "-":
        print(stats_table.table(found))
