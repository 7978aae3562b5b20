"""What oneformer-data adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Command, Evaluator, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the commands."""
    return [
        Command(
            "evaluate",
            "oneformer_data.evaluation.evaluate:run",
            "Score a model on labelled images: PQ, mask AP and mIoU.",
        ),
        Command(
            "score", "oneformer_data.commands.score:app", "Score saved predictions against ground truth.", kind="app"
        ),
        Command(
            "dataset", "oneformer_data.commands.dataset:app", "Check, count, show, convert and pack images.", kind="app"
        ),
    ]


@hookimpl
def oneformer_evaluators() -> list[Evaluator]:
    """Declare the evaluators, one per task."""
    return [
        Evaluator("semantic", "oneformer_data.metrics.miou:make", "semantic", {"mIoU": ("mIoU",)}),
        Evaluator("instance", "oneformer_data.metrics.ap:make", "instance", {"AP": ("AP", "AP")}),
        Evaluator("panoptic", "oneformer_data.metrics.pq:make", "panoptic", {"PQ": ("PQ", "all", "pq")}),
    ]
