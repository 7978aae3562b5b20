"""The end of a run in words: its scores, its files, and the commands that come next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from pathlib import Path

from oneformer_spec.schema import Spec
from oneformer_spec.segmentation.frame import SIZE_TOLERANCE
from oneformer_spec.segmentation.manifest import size_rule
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.monitoring.curves import VALIDATION
from oneformer_train.monitoring.event_files import TENSORBOARD
from oneformer_train.monitoring.metrics_table import METRICS, read_metrics

OPEN_SIZES = ("swin", "efficientvit")
"""Backbones that are exported with open sizes whatever their options; others may know one size only."""


def summary(spec: Spec, folder: Path) -> str:
    """Return the summary of the run in `folder`; scores of earlier processes of the run count.

    Scores and curves are those that the loggers `csv` and `tensorboard` wrote.
    """
    board = shlex.join(["tensorboard", "--logdir", str(folder / TENSORBOARD)])
    curves = [
        text for name, text in ((METRICS, str(folder / METRICS)), (TENSORBOARD, board)) if (folder / name).exists()
    ]
    return "\n".join(
        [
            *scores(folder),
            f"trained: {folder / LATEST}",
            *([f"curves:  {', '.join(curves)}"] if curves else []),
            "next:",
            *(f"  {command}" for command in next_commands(spec, folder)),
        ]
    )


def scores(folder: Path) -> Iterator[str]:
    """Yield a line per score: the last one, and the best one with its epoch. A loss is best where it is smallest."""
    rows = read_metrics(folder / METRICS)
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(VALIDATION))
    for name in names:
        found = [(float(row[name]), row["epoch"]) for row in rows if name in row]
        found = [entry for entry in found if math.isfinite(entry[0])]
        if not found:
            continue
        best, epoch = (min if "loss" in name else max)(found, key=lambda entry: entry[0])
        label = {"val/loss": "val_loss"}.get(name, name.removeprefix(VALIDATION))
        yield f"{label} {found[-1][0]:.3f}, best {best:.3f} in epoch {epoch}"


def next_commands(spec: Spec, folder: Path) -> list[str]:
    """Return the commands to evaluate, segment images and export, quoted for a shell."""
    paths: dict[str, dict[str, str]] = {
        "evaluate": {},
        "inference": {"images_dir": _images(spec), "mode": "all"},
        "export": _export_size(spec),
    }
    return [
        shlex.join(
            [
                *("oneformer", task, "-e", str(folder / "experiment.yaml"), f"{task}.checkpoint={folder / LATEST}"),
                *(f"{task}.{name}={value}" for name, value in options.items()),
            ]
        )
        for task, options in paths.items()
    ]


def _export_size(spec: Spec) -> dict[str, str]:
    """Return what lets an exported file see images as the network was trained to, where the spec does not do so."""
    rule = size_rule(spec)
    if spec.export.dynamic_size or rule.is_met_by((spec.export.input_height, spec.export.input_width)):
        return {}
    if spec.model.backbone.type in OPEN_SIZES:
        return {"dynamic_size": "true"}
    height, width = (-(-edge // SIZE_TOLERANCE) * SIZE_TOLERANCE for edge in rule.room)
    return {"input_height": str(height), "input_width": str(width)}


def _images(spec: Spec) -> str:
    """Return a folder of images to try: that of `inference`, or the first one of the validation data."""
    images = spec.inference.images_dir or spec.dataset.val.images or "FOLDER"
    return images if isinstance(images, str) else str(images[0])
