"""What oneformer-data adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Check, Command, Dataset, Evaluator, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verbs."""
    return [
        Command("evaluate", "oneformer_data.evaluate:run", "Score a model on labelled images: PQ, mask AP and mIoU."),
        Command("score", "oneformer_data.score_app:app", "Score saved predictions against ground truth.", kind="app"),
        Command("dataset", "oneformer_data.dataset_app:app", "Check, count and convert annotated images.", kind="app"),
    ]


@hookimpl
def oneformer_datasets() -> list[Dataset]:
    """Declare the annotation formats."""
    return [
        Dataset(
            "coco_panoptic",
            "oneformer_data.coco_panoptic:open_panoptic",
            check="oneformer_data.panoptic_files:problems",
        )
    ]


@hookimpl
def oneformer_checks() -> list[Check]:
    """Declare what `oneformer validate --data` looks at."""
    return [Check("data", "oneformer_data.check:problems")]


@hookimpl
def oneformer_evaluators() -> list[Evaluator]:
    """Declare the scores, one per task."""
    return [
        Evaluator("semantic", "oneformer_data.metrics.miou:make"),
        Evaluator("instance", "oneformer_data.metrics.ap:make"),
        Evaluator("panoptic", "oneformer_data.metrics.pq:make"),
    ]
