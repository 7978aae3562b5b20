"""The command `dataset shard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneformer_data.selection_app import Annotations, Images, LabelMap, Overrides, Panoptic, SpecFiles, Type


def shard(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write; new or empty.")],
    overrides: Overrides = None,
    experiment_spec: SpecFiles = None,
    annotations: Annotations = None,
    images: Images = None,
    panoptic: Panoptic = None,
    label_map: LabelMap = None,
    type: Type = None,
    split: Annotated[str | None, typer.Option(help="Which split of the spec, where it has several.")] = None,
    size: Annotated[float, typer.Option(min=0.001, metavar="MB", help="Largest size of a tar file.")] = 500,
    samples: Annotated[int | None, typer.Option(min=1, help="Most images in a tar file.")] = None,
    shuffle: Annotated[
        int | None, typer.Option(min=0, metavar="SEED", help="Write the images in a random order, not in theirs.")
    ] = None,
) -> None:
    """Pack annotated images into tar files (WebDataset) that training reads from any disk or web server.

    Images and masks are copied byte for byte. A split of several data sets becomes a folder for each. The options stand
    for dataset.val of a spec.
    """
    from oneformer_data.selection import selected
    from oneformer_data.shards.packing import pack
    from oneformer_spec.schema import Split
    from oneformer_spec.writing import flow

    data = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    dataset = selected(experiment_spec or (), overrides or (), data=data, label_map=label_map)
    packed = pack(dataset, split, output, size=int(size * 1e6), samples=samples, seed=shuffle)
    names = [str(index) for index in packed.indexes]
    print(f"{packed.images} images in {packed.shards} tar files. A spec reads them with:")
    print(f"dataset:\n  {packed.split}:\n    annotations: {flow(names if len(names) > 1 else names[0])}")
    print(f"model:\n  sem_seg_head:\n    num_classes: {packed.classes}")
