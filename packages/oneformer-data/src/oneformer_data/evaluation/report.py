"""Scores as a table: percentages, and the headline numbers of further evaluators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from oneformer_spec.labels import Labels
from oneformer_spec.plugins.headlines import headline_numbers
from oneformer_spec.plugins.task_declarations import declared_tasks


def table(metrics: Mapping[str, Any], labels: Labels, *, classes: bool = True) -> str:
    """Return the overall numbers of `metrics.json`, then a row per class where it has any and `classes` asks for it."""
    blocks = (_overall(metrics), _further(metrics), _per_class(metrics, labels) if classes else "")
    return "\n\n".join(block for block in blocks if block)


def without_classes(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics without what they say about single classes."""
    return {
        name: without_classes(value) if isinstance(value, Mapping) else value
        for name, value in metrics.items()
        if name not in ("IoU_per_class", "per_class")
    }


def _overall(metrics: Mapping[str, Any]) -> str:
    blocks = []
    if "PQ" in metrics:
        rows = [
            [kind, *(_percent(means[field]) for field in ("pq", "sq", "rq")), str(means["n"])]
            for kind in ("all", "things", "stuff")
            if (means := metrics["PQ"][kind]) is not None
        ]
        blocks.append(aligned([["panoptic", "PQ", "SQ", "RQ", "classes"], *rows]))
    if "AP" in metrics:
        names = [name for name in metrics["AP"] if name != "per_class"]
        blocks.append(aligned([["instance", *names], ["masks", *(_percent(metrics["AP"][name]) for name in names)]]))
    if "mIoU" in metrics:
        names = ["mIoU", "fwIoU", "mAcc", "pixel_acc"]
        blocks.append(aligned([["semantic", *names], ["pixels", *(_percent(metrics[name]) for name in names)]]))
    return "\n\n".join(blocks)


def _further(metrics: Mapping[str, Any]) -> str:
    """Return the headline numbers of further evaluators as they are: only their makers know whether they are parts."""
    found = headline_numbers(metrics, declared_tasks())
    shown = {name: value for name, value in found.items() if name not in ("PQ", "AP", "mIoU") and not math.isnan(value)}
    return aligned([["further", *shown], ["scores", *(f"{value:.4f}" for value in shown.values())]]) if shown else ""


def _per_class(metrics: Mapping[str, Any], labels: Labels) -> str:
    panoptic = metrics.get("PQ", {}).get("per_class")
    instance = metrics.get("AP", {}).get("per_class")
    semantic = metrics.get("IoU_per_class")
    columns = [
        ("PQ", panoptic, "pq"),
        ("SQ", panoptic, "sq"),
        ("RQ", panoptic, "rq"),
        ("AP", instance, "AP"),
        ("AP50", instance, "AP50"),
    ]
    present = [(title, rows, field) for title, rows, field in columns if rows is not None]
    head = ["class", *(title for title, _, _ in present), *(["IoU"] if semantic is not None else [])]
    if len(head) == 1:
        return ""
    body = []
    for index, label in enumerate(labels):
        cells = [_percent(rows.get(str(label.id), {}).get(field)) for _, rows, field in present]
        body.append([label.name, *cells, *([_percent(semantic[index])] if semantic is not None else [])])
    return aligned([head, *body])


def _percent(value: float | None) -> str:
    """Write a fraction as a percentage; a dash where there is none (None, or COCO's -1)."""
    return "-" if value is None or value < 0 else f"{100 * value:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns: the first to the left, the numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )
