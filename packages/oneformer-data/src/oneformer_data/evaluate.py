"""The command `evaluate`: a model file and labelled images in, PQ, mask AP and mIoU out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from numpy import uint8
from numpy.typing import NDArray

from oneformer_data.evaluation import Predict, evaluate_samples
from oneformer_data.loading import open_split, read_label_map
from oneformer_data.progress import Progress
from oneformer_data.report import table, without_classes
from oneformer_data.sources import is_set
from oneformer_spec.atomic import write_atomically
from oneformer_spec.decode import Thresholds
from oneformer_spec.entry import note
from oneformer_spec.errors import DataError, SpecError
from oneformer_spec.labels import Label, Labels
from oneformer_spec.manifest import size_rule
from oneformer_spec.pending import check_available
from oneformer_spec.plugins import registry, resolve
from oneformer_spec.results import Segmentation
from oneformer_spec.run_folder import RunFolder
from oneformer_spec.schema import DatasetSection, Spec
from oneformer_spec.segmenter import Segmenter
from oneformer_spec.tasks import TASKS, Task


def run(spec: Spec) -> None:
    """Score `evaluate.checkpoint` on `dataset.test`, or on `dataset.val` where test is not set.

    Writes `metrics.json` into the run's folder and prints a table. Nothing is written before model and data are open.

    Raises:
        SpecError: No model, or no data.
        UsageError: No installed runtime reads the model file.
        DataError: Annotations are wrong, files are missing, or the model knows other classes than the label map.
    """
    check_available(spec, "evaluate")
    path, split = model_file(spec), split_name(spec.dataset)
    segmenter = resolve(registry().runtime(path).target)(path, device(spec.evaluate.gpu_ids))
    labels = segmenter.manifest.labels
    if spec.dataset.label_map:
        check_labels(labels, read_label_map(spec.dataset), path, spec.dataset.label_map)
    samples = open_split(spec.dataset, split, labels)
    with RunFolder.open(spec, "evaluate") as folder:
        metrics = evaluate_samples(
            samples,
            predictor(segmenter, spec),
            tasks(spec),
            labels,
            batch_size=batch_size(spec, split),
            progress=Progress("evaluate", "images", report=lambda line, eta: folder.status("RUNNING", line, eta=eta)),
        )
        if not spec.evaluate.iou_per_class:
            metrics = without_classes(metrics)
        document = {**metrics, "data": {"images": len(samples), "checkpoint": path}}
        write_atomically(folder.path / "metrics.json", f"{json.dumps(document, indent=1)}\n".encode())
        print(table(metrics, labels))
        print(f"\n{folder.path / 'metrics.json'}")


def model_file(spec: Spec) -> str:
    """Return the one model file that the spec names."""
    evaluate = spec.evaluate
    if bool(evaluate.checkpoint) == bool(evaluate.trt_engine):
        state = "both are set" if evaluate.checkpoint else "neither is set"
        raise SpecError(f"evaluate.checkpoint, evaluate.trt_engine: exactly one is needed, {state}")
    return evaluate.checkpoint or evaluate.trt_engine


def device(gpu_ids: Sequence[int]) -> str:
    """Return the device to ask a runtime for: the first GPU where there is one, or the GPU that the spec names."""
    return "auto" if gpu_ids[0] == 0 else f"cuda:{gpu_ids[0]}"


def split_name(dataset: DatasetSection) -> str:
    """Return the split to score."""
    if is_set(dataset.test):
        return "test"
    note("dataset.test is not set: evaluating dataset.val")
    return "val"


def tasks(spec: Spec) -> Sequence[Task]:
    """Return the tasks to score, in the order of the table."""
    return TASKS if spec.evaluate.task == "all" else (Task(spec.evaluate.task),)


def batch_size(spec: Spec, split: str) -> int:
    """Return how many images of one size go through the model together: -1 leaves it to the split."""
    own: int = getattr(spec.dataset, split).batch_size
    return own if spec.evaluate.batch_size == -1 else spec.evaluate.batch_size


def predictor(segmenter: Segmenter, spec: Spec) -> Predict:
    """Return a model as a function of pictures and task, with the thresholds and the input size of the spec."""
    test, rule = spec.model.test, size_rule(spec)
    thresholds = Thresholds(test.object_mask_threshold, test.overlap_threshold, test.test_topk_per_image)
    manifest = replace(segmenter.manifest, thresholds=thresholds)
    tuned = Segmenter(segmenter.run, manifest, fixed_batch=segmenter.fixed_batch)

    def predict(images: Sequence[NDArray[uint8]], task: Task) -> list[Segmentation]:
        return tuned.predict(images, task, rule=rule, min_score=0.0)

    return predict


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
