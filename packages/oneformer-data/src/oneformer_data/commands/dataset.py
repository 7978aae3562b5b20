"""The Typer app of `oneformer dataset`: check, stats, show, shard, and convert (from `convert_data`).

Only `commands/` imports typer, which comes with oneformer-cli. A command imports its implementation when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneformer_data.commands import convert_data

app = typer.Typer(
    help="Check, count, show, convert and pack annotated images.", no_args_is_help=True, add_completion=False
)
app.add_typer(convert_data.app, name="convert")


SpecFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "-e", "--experiment_spec", metavar="FILE", help="Spec file; may be repeated, later files override earlier ones."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that override the files, such as dataset.label_map=FILE."),
]
Annotations = Annotated[
    str | None, typer.Option(metavar="FILE", help="Annotations to use instead of the splits of a spec.")
]
Images = Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder that their image names are relative to.")]
Panoptic = Annotated[str | None, typer.Option(metavar="FOLDER", help="PNG maps of COCO panoptic annotations.")]
LabelMap = Annotated[str | None, typer.Option(metavar="FILE", help="JSON list of {id, name, isthing, color}.")]
Type = Annotated[str | None, typer.Option(help="Format of the annotations, if the file name does not reveal it.")]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON to FILE; - for stdout.")
]


def write_json(document: object, path: str) -> None:
    """Write a document as JSON to a path, or print it if the path is `-`."""
    import json

    from oneformer_spec.files.atomic import write_output

    text = json.dumps(document, indent=1, ensure_ascii=False)
    if path == "-":
        typer.echo(text)
    else:
        write_output(path, text)


@app.command("check")
def check(
    overrides: Overrides = None,
    experiment_spec: SpecFiles = None,
    annotations: Annotations = None,
    images: Images = None,
    panoptic: Panoptic = None,
    label_map: LabelMap = None,
    type: Type = None,
    json_file: Json = None,
) -> None:
    """Find every problem in annotated images, and images that two splits share.

    Prints one line per problem to stderr; the exit code is 1 if there are any. The options take the place of
    dataset.val in a spec.
    """
    import sys

    from oneformer_data.opening.selection import selected
    from oneformer_data.tools import check as data_check
    from oneformer_spec.commands.exit import report
    from oneformer_spec.errors import DataError
    from oneformer_spec.schema import Split

    data = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    dataset = selected(experiment_spec or (), overrides or (), data=data, label_map=label_map)
    erase = "\r\033[K" if sys.stderr.isatty() else ""  # clears the progress line
    findings = data_check.check(dataset, lambda problem: report(f"{erase}{problem}"))
    if json_file is not None:
        write_json(findings.document(), json_file)
    if json_file != "-":
        print(findings.table())
    if number := len(findings.problems):
        shared = f", {findings.shared} of them between splits" if findings.shared else ""
        raise DataError(f"{number} problem{'s' * (number > 1)} in the data{shared}")
    if json_file != "-":
        print("no problems")


@app.command("stats")
def stats(
    overrides: Overrides = None,
    experiment_spec: SpecFiles = None,
    annotations: Annotations = None,
    images: Images = None,
    panoptic: Panoptic = None,
    label_map: LabelMap = None,
    type: Type = None,
    json_file: Json = None,
) -> None:
    """Count the images, segments and pixels of each split and class.

    The options take the place of dataset.val in a spec.
    """
    from oneformer_data.opening.selection import selected
    from oneformer_data.tools import stats as counting
    from oneformer_spec.schema import Split

    data = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    dataset = selected(experiment_spec or (), overrides or (), data=data, label_map=label_map)
    splits = counting.stats(dataset)
    if json_file is not None:
        write_json({"splits": {name: split.document() for name, split in splits.items()}}, json_file)
    if json_file != "-":
        print(counting.table(splits))


@app.command("show")
def show(
    experiment_spec: Annotated[
        list[Path],
        typer.Option(
            "-e",
            "--experiment_spec",
            metavar="FILE",
            help="Spec file; may be repeated, later files override earlier ones.",
        ),
    ],
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(help="Output folder for the images.")] = Path("results/show"),
    count: Annotated[int, typer.Option(min=1, help="Number of examples to draw.")] = 16,
) -> None:
    """Draw the first examples as training sees them: augmented image, targets of the task, texts."""
    from oneformer_data.tools.show import draw_examples
    from oneformer_spec.commands.exit import note
    from oneformer_spec.loading.load import load_spec

    loaded = load_spec(experiment_spec, overrides or ())
    for line in loaded.notes:
        note(line)
    paths = draw_examples(loaded.spec, output, count)
    print(f"{output}: {len(paths)} examples")


@app.command("shard")
def shard(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder; must be new or empty.")],
    overrides: Overrides = None,
    experiment_spec: SpecFiles = None,
    annotations: Annotations = None,
    images: Images = None,
    panoptic: Panoptic = None,
    label_map: LabelMap = None,
    type: Type = None,
    split: Annotated[str | None, typer.Option(help="Which split of the spec to write, if it has several.")] = None,
    size: Annotated[float, typer.Option(min=0.001, metavar="MB", help="Maximum size of a tar file.")] = 500,
    samples: Annotated[int | None, typer.Option(min=1, help="Maximum number of images in a tar file.")] = None,
    shuffle: Annotated[
        int | None, typer.Option(min=0, metavar="SEED", help="Shuffle the images with this seed.")
    ] = None,
) -> None:
    """Pack annotated images into tar files (WebDataset) that training reads from any disk or web server.

    Images and masks are copied byte for byte. Several data sets in a split get a folder each. The options take the
    place of dataset.val in a spec.
    """
    from oneformer_data.opening.selection import selected
    from oneformer_data.shards.packing import pack
    from oneformer_spec.documents.yaml_lines import flow
    from oneformer_spec.schema import Split

    data = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    dataset = selected(experiment_spec or (), overrides or (), data=data, label_map=label_map)
    packed = pack(dataset, split, output, size=int(size * 1e6), samples=samples, seed=shuffle)
    names = [str(index) for index in packed.indexes]
    print(f"{packed.images} images in {packed.shards} tar files. A spec reads them with:")
    print(f"dataset:\n  {packed.split}:\n    annotations: {flow(names if len(names) > 1 else names[0])}")
    print(f"model:\n  sem_seg_head:\n    num_classes: {packed.classes}")
