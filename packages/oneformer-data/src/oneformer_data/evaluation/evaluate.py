"""The command `evaluate`: a model file and labelled images in, PQ, mask AP and mIoU out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oneformer_data.datasets import allowed_tasks
from oneformer_data.evaluation.loop import DATA_SETS, Evaluation, Predict, count_parts, scores, window
from oneformer_data.evaluation.report import table, without_classes
from oneformer_data.opening.loading import open_parts, read_label_map
from oneformer_data.opening.sources import is_set
from oneformer_data.sample import Sample
from oneformer_spec.commands.exit import note
from oneformer_spec.commands.progress import Progress
from oneformer_spec.commands.run_folder import RunFolder
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.labels import Label, Labels
from oneformer_spec.plugins.annotation_formats import formats_for
from oneformer_spec.plugins.registry import registry
from oneformer_spec.processes.shares import ReportProgress, open_work
from oneformer_spec.processes.world import World
from oneformer_spec.schema import DatasetSection, Spec
from oneformer_spec.segmentation.frame import SizeRule
from oneformer_spec.segmentation.model_file import input_rule, model_path, open_model, requested_tasks
from oneformer_spec.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class Counted:
    """What one process counted, by data set."""

    labels: Labels
    tasks: Sequence[str]
    parts: Mapping[str, Evaluation]


@dataclass(frozen=True)
class Scoring:
    """A model, and the labelled images of which this process counts its share: a `Work`."""

    predict: Predict
    parts: Mapping[str, Sequence[Sample]]
    tasks: Sequence[str]
    labels: Labels
    batch_size: int
    num_workers: int
    world: World
    options: Mapping[str, Any]

    @property
    def total(self) -> int:
        """The number of images in the share."""
        return sum(len(self.world.share(len(samples), window(self.batch_size))) for samples in self.parts.values())

    def run(self, report: ReportProgress) -> Counted:
        """Predict and count."""
        counted = count_parts(
            self.parts,
            self.predict,
            self.tasks,
            self.labels,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            progress=report,
            world=self.world,
            options=self.options,
        )
        return Counted(self.labels, self.tasks, counted)


def run(spec: Spec) -> None:
    """Score `evaluate.checkpoint` on `dataset.test`, or on `dataset.val` where test is not set.

    Writes `metrics.json` into the run's folder and prints a table. Nothing is written before model and data are open.

    Raises:
        SpecError: No model, or no data.
        UsageError: No installed runtime reads the model file.
        DataError: Annotations are wrong, files are missing, or the model knows other classes than the label map.
    """
    with (
        open_work("oneformer_data.evaluation.evaluate:open_scoring", spec, "evaluate") as work,
        RunFolder.open(spec, "evaluate") as folder,
    ):
        progress = Progress("evaluate", "images", report=lambda line, eta: folder.status("RUNNING", line, eta=eta))
        shares: list[Counted] = work.run(progress)
        labels = shares[0].labels
        metrics = scores([share.parts for share in shares], shares[0].tasks, labels)
        if not spec.evaluate.iou_per_class:
            metrics = without_classes(metrics)
        document = {**metrics, "data": {"images": work.total, "checkpoint": model_path(spec.evaluate, "evaluate")}}
        write_atomically(folder.path / "metrics.json", f"{json.dumps(document, indent=1)}\n".encode())
        for name, alone in metrics.get(DATA_SETS, {}).items():
            print(f"{name}\n{table(alone, labels, classes=False)}\n")
        print(table(metrics, labels))
        print(f"\n{folder.path / 'metrics.json'}")


def open_scoring(spec: Spec, world: World) -> Scoring:
    """Open model and data of one process; errors are those of `run`."""
    path, split = model_path(spec.evaluate, "evaluate"), split_name(spec.dataset)
    segmenter = open_model(path, spec, spec.evaluate, world)
    labels = segmenter.manifest.labels
    if spec.dataset.label_map:
        check_labels(labels, read_label_map(spec.dataset), path, spec.dataset.label_map)
    parts = open_parts(spec.dataset, split, labels)
    return Scoring(
        predict=predictor(segmenter, input_rule(segmenter, spec, spec.evaluate)),
        parts=parts,
        tasks=tasks(requested_tasks(spec.evaluate.task, segmenter, path, "evaluate.task"), parts),
        labels=labels,
        batch_size=batch_size(spec, split),
        num_workers=getattr(spec.dataset, split).num_workers,
        world=world,
        options=dict(spec.evaluate.evaluators),
    )


def split_name(dataset: DatasetSection) -> str:
    """Return the split to score."""
    if is_set(dataset.test):
        return "test"
    note("dataset.test is not set: evaluating dataset.val")
    return "val"


def tasks(wanted: Sequence[str], parts: Mapping[str, Sequence[Sample]]) -> Sequence[str]:
    """Return the tasks to score, in the order of the table: those that have ground truth and an evaluator.

    Raises:
        SpecError: None of them has.
    """
    have = {task for samples in parts.values() for task in allowed_tasks(samples)}
    evaluated = {evaluator.task for evaluator in registry().evaluators.values()}
    scored = tuple(task for task in wanted if task in have & evaluated)
    if not scored and wanted[0] in have:
        raise SpecError(f"evaluate.task: no evaluator of the task {wanted[0]} is installed")
    if not scored:
        raise SpecError(
            f"evaluate.task: the data has no ground truth for {wanted[0]}; formats with it: {formats_for(wanted[0])}"
        )
    for task in wanted:
        if task not in have:
            note(f"{task} is not scored: the data has no ground truth for it")
        elif task not in evaluated:
            note(f"{task} is not scored: no evaluator of it is installed")
    return scored


def batch_size(spec: Spec, split: str) -> int:
    """Return how many images of one size go through the model together: -1 leaves it to the split."""
    own: int = getattr(spec.dataset, split).batch_size
    return own if spec.evaluate.batch_size == -1 else spec.evaluate.batch_size


def predictor(segmenter: Segmenter, rule: SizeRule | None) -> Predict:
    """Return a model as a function of pictures and task that keeps instances of any score."""
    return lambda images, task: segmenter.predict(images, task, rule=rule, min_score=0.0)


def check_labels(trained: Labels, wanted: Labels, path: str, label_map: str) -> None:
    """Refuse to score a model against other classes than its own.

    Raises:
        DataError: The two differ; the message names the first difference.
    """
    if len(trained) != len(wanted):
        raise DataError(f"{label_map}: has {len(wanted)} categories, but {path} was trained on {len(trained)}")
    for index, (one, other) in enumerate(zip(trained, wanted, strict=True)):
        if (one.id, one.isthing) != (other.id, other.isthing):
            raise DataError(
                f"{label_map}: class {index} is {_described(other)}, but {path} was trained on {_described(one)}"
            )


def _described(label: Label) -> str:
    return f"{'thing' if label.isthing else 'stuff'} {label.id} ({label.name!r})"
