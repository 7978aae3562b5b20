"""What oneformer-data adds to `oneformer`."""

from __future__ import annotations

from oneformer_spec.hooks import Check, Command, Dataset, Evaluator, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the verbs."""
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
def oneformer_datasets() -> list[Dataset]:
    """Declare the annotation formats."""
    return [
        Dataset(
            "coco_panoptic",
            "oneformer_data.formats.coco_panoptic:open_panoptic",
            check="oneformer_data.formats.panoptic_files:problems",
        ),
        Dataset(
            "coco_instance",
            "oneformer_data.formats.coco_instance:open_instance",
            check="oneformer_data.formats.instance_files:problems",
        ),
        Dataset(
            "semantic_jsonl",
            "oneformer_data.formats.semantic_jsonl:open_semantic",
            check="oneformer_data.formats.semantic_jsonl:problems",
        ),
        Dataset(
            "webdataset",
            "oneformer_data.shards.reader:open_shards",
            check="oneformer_data.shards.verification:problems",
        ),
    ]


@hookimpl
def oneformer_checks() -> list[Check]:
    """Declare what `oneformer validate --data` looks at."""
    return [Check("data", "oneformer_data.tools.check:problems")]


@hookimpl
def oneformer_evaluators() -> list[Evaluator]:
    """Declare the scores, one per task."""
    return [
        Evaluator("semantic", "oneformer_data.metrics.miou:make", "semantic", {"mIoU": ("mIoU",)}),
        Evaluator("instance", "oneformer_data.metrics.ap:make", "instance", {"AP": ("AP", "AP")}),
        Evaluator("panoptic", "oneformer_data.metrics.pq:make", "panoptic", {"PQ": ("PQ", "all", "pq")}),
    ]
