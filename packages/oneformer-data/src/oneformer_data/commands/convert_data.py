"""The commands `dataset convert …`, one per kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from oneformer_data.convert.conversion import Annotated as Pictures

app = typer.Typer(
    help="Convert annotations into the formats that training reads.", no_args_is_help=True, add_completion=False
)

Output = Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder; created if missing.")]
Images = Annotated[Path, typer.Option(metavar="FOLDER", help="The images; they are not copied.")]
Masks = Annotated[Path, typer.Option(metavar="FOLDER", help="The masks.")]
To = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMAT",
        help="panoptic, instance or semantic; may be repeated. Default: all possible ones.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip images that cannot be converted, instead of writing nothing.")
]


@app.command()
def panoptic(
    annotations: Annotated[str, typer.Option(metavar="FILE", help="COCO panoptic JSON.")],
    images: Annotated[str, typer.Option(metavar="FOLDER", help="The images; they are not copied.")],
    panoptic: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of its PNG maps.")],
    output: Output,
    label_map: Annotated[str | None, typer.Option(metavar="FILE", help="The classes.")] = None,
    to: To = None,
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Convert COCO panoptic to COCO instance and to semantic masks."""
    from oneformer_data.convert import annotations as source
    from oneformer_data.convert.outputs import OutputFormat
    from oneformer_spec.schema import Split

    split = Split(type="coco_panoptic", images=images, annotations=annotations, panoptic=panoptic)
    annotated = source.read(split, label_map=label_map, without=(OutputFormat.PANOPTIC,))
    _convert(annotated, output, to, force, skip_bad)


@app.command("annotations")
def any_format(
    annotations: Annotated[str, typer.Option(metavar="FILE", help="The annotations.")],
    output: Output,
    images: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder of the images.")] = None,
    panoptic: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="PNG maps of COCO panoptic annotations.")
    ] = None,
    label_map: Annotated[str | None, typer.Option(metavar="FILE", help="The classes.")] = None,
    type: Annotated[str | None, typer.Option(help="Their format, if the file name does not reveal it.")] = None,
    to: To = None,
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Convert any format that training reads, plugins' formats included."""
    from oneformer_data.convert import annotations as source
    from oneformer_spec.schema import Split

    split = Split(type=type, images=images, annotations=annotations, panoptic=panoptic)
    _convert(source.read(split, label_map=label_map), output, to, force, skip_bad)


@app.command()
def cityscapes(
    images: Images,
    masks: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder below gtFine or gtCoarse, such as train.")],
    output: Output,
    to: To = None,
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Convert Cityscapes: …_gtFine_instanceIds.png (or …_labelIds.png, classes only) for each …_leftImg8bit.png."""
    from oneformer_data.convert import cityscapes as source

    _convert(source.read(images, masks), output, to, force, skip_bad)


@app.command()
def ade20k(
    images: Images,
    masks: Masks,
    output: Output,
    to: To = None,
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Convert ADE20K scene parsing: gray PNGs, classes 1 to 150, 0 is unlabelled."""
    from oneformer_data.convert import ade20k as source

    _convert(source.read(images, masks), output, to, force, skip_bad)


@app.command()
def voc(
    images: Images,
    classes: Annotated[Path, typer.Option(metavar="FOLDER", help="SegmentationClass.")],
    output: Output,
    objects: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="SegmentationObject; without it, only classes are converted.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A list of ImageSets/Segmentation, such as train.txt.")
    ] = None,
    to: To = None,
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Convert Pascal VOC: palette PNGs of classes and objects, 255 is void."""
    from oneformer_data.convert import voc as source

    _convert(source.read(images, classes, objects=objects, names=names), output, to, force, skip_bad)


@app.command()
def labelme(
    annotations: Annotated[Path, typer.Option(metavar="FOLDER", help="The JSON files.")],
    output: Output,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The images. Default: beside the JSON files.")
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The classes. Default: every name is a thing class.")
    ] = None,
    to: To = None,
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Convert LabelMe JSON: polygons, rectangles and circles; a group_id joins the parts of an object."""
    from oneformer_data.convert import labelme as source

    _convert(source.read(annotations, images or annotations, label_map), output, to, force, skip_bad)


def _convert(pictures: Pictures, output: Path, to: list[str] | None, force: bool, skip_bad: bool) -> None:
    """Convert, and print the lines of a spec that read the result."""
    import sys

    from oneformer_data.convert.conversion import convert
    from oneformer_data.convert.outputs import OutputFormat
    from oneformer_spec.commands.exit import report
    from oneformer_spec.documents.yaml_lines import text
    from oneformer_spec.errors import UsageError

    for word in to or ():
        if word not in list(OutputFormat):
            raise UsageError(f"--to {word}: is not one of {', '.join(OutputFormat)}")
    erase = "\r\033[K" if sys.stderr.isatty() else ""  # clears the progress line
    converted = convert(
        pictures,
        output,
        formats=[OutputFormat(word) for word in to or ()],
        force=force,
        skip_bad=skip_bad,
        on_problem=lambda problem: report(f"{erase}{problem}"),
    )
    skipped = f", {converted.skipped} skipped" if converted.skipped else ""
    print(f"{converted.images} images{skipped}. A spec reads them with:")
    for format, settings in converted.settings.items():
        print(f"# {format}\ndataset:\n  label_map: {text(str(converted.label_map))}\n  train:")
        for field, value in settings.items():
            print(f"    {field}: {text(value)}")
        print(f"model:\n  sem_seg_head:\n    num_classes: {len(pictures.labels)}")
