"""The Typer app of `oneformer score`.

A command imports its implementation when it runs, so that its help is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from oneformer_data.commands.dataset import Json, write_json

if TYPE_CHECKING:
    from oneformer_spec.labels import Labels

app = typer.Typer(help="Score saved predictions against ground truth.", no_args_is_help=True, add_completion=False)


@app.command()
def panoptic(
    gt: Annotated[str, typer.Option(help="COCO panoptic JSON of the ground truth.")],
    gt_dir: Annotated[str, typer.Option(help="Folder of its PNG files.")],
    pred: Annotated[str, typer.Option(help="COCO panoptic JSON of the predictions.")],
    pred_dir: Annotated[str, typer.Option(help="Folder of its PNG files.")],
    json_file: Json = None,
) -> None:
    """Panoptic quality: PQ, SQ and RQ."""
    from oneformer_data.evaluation import saved_predictions

    _finish(saved_predictions.score_panoptic(gt, gt_dir, pred, pred_dir), _labels(gt), json_file)


@app.command()
def instance(
    gt: Annotated[str, typer.Option(help="COCO instance JSON of the ground truth.")],
    pred: Annotated[str, typer.Option(help="COCO results list of the predictions.")],
    json_file: Json = None,
) -> None:
    """Mask AP and AR."""
    from oneformer_data.evaluation import saved_predictions

    _finish(saved_predictions.score_instance(gt, pred), _labels(gt), json_file)


@app.command()
def semantic(
    gt: Annotated[str, typer.Option(help="Folder of ground-truth PNGs, pixel = class index.")],
    pred: Annotated[str, typer.Option(help="Folder of predicted PNGs with the same names.")],
    num_classes: Annotated[int, typer.Option(min=1, help="Number of classes, 0 to N - 1.")],
    ignore: Annotated[int, typer.Option(help="Value of ground-truth pixels that do not count.")] = 255,
    json_file: Json = None,
) -> None:
    """Mean and weighted IoU, mean and pixel accuracy."""
    from oneformer_data.evaluation import saved_predictions
    from oneformer_spec.labels import Labels

    rows = [{"id": index + 1, "name": str(index), "isthing": 0} for index in range(num_classes)]
    metrics = saved_predictions.score_semantic(gt, pred, num_classes=num_classes, ignore=ignore)
    _finish(metrics, Labels.parse(rows, source="classes"), json_file)


def _labels(gt: str) -> Labels:
    from oneformer_data.opening.documents import listed, read_json
    from oneformer_spec.labels import Labels

    rows = [{"name": f"{row.get('id')}", **row} for row in listed(read_json(gt), "categories", gt)]
    return Labels.parse(rows, source=gt)


def _finish(metrics: dict[str, Any], labels: Labels, path: str | None) -> None:
    from oneformer_data.evaluation.report import table

    if path is not None:
        write_json(metrics, path)
    if path != "-":
        typer.echo(table(metrics, labels))
