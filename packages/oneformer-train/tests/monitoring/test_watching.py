"""What a run shows and leaves for those who watch it: curves, sample pictures, notes, a dry run, and a summary."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from oneformer_data.opening.loading import open_split, read_labels
from oneformer_spec.commands.run_folder import RunFolder
from oneformer_spec.errors import SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_spec.results import Segment, Segmentation
from oneformer_spec.segmentation.manifest import Manifest
from oneformer_spec.tasks import Task
from oneformer_train.batches.loaders import TimedLoader
from oneformer_train.checkpoints.position import Course
from oneformer_train.checkpoints.stop_signals import StoppedError
from oneformer_train.command import run
from oneformer_train.loss.criterion import Criterion, LossWeights, PointOptions
from oneformer_train.module import TrainingModule
from oneformer_train.monitoring.metrics_table import METRICS, MetricsTable, read_metrics
from oneformer_train.monitoring.progress import Progress
from oneformer_train.monitoring.sample_pictures import SamplePictures, half, truth
from oneformer_train.monitoring.summary import next_commands, summary

MEASURED = ("speed/", "memory/")


def train(spec_file: Path, *overrides: str) -> Path:
    run(load_spec([spec_file], ["wandb.enable=false", *overrides], task="train").spec)
    return spec_file.parent / "results" / "train"


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run without what is measured in it."""
    return [
        {name: value for name, value in row.items() if not name.startswith(MEASURED)}
        for row in read_metrics(folder / METRICS)
    ]


def test_curves_go_on_where_a_checkpoint_was(spec_file: Path) -> None:
    steps = ("train.checkpoint_interval_unit=step", "train.checkpoint_interval=6", "train.num_epochs=3")
    folder = train(spec_file, *steps)
    assert len(list((folder / "tensorboard").iterdir())) == 1
    straight = rows(folder)
    losses = [row for row in straight if "train/loss" in row]
    scores = [row for row in straight if "val/PQ" in row]
    assert [row["step"] for row in losses] == [row["step"] for row in scores] == ["3", "6", "9"]
    assert {"train/class", "train/mask", "train/dice", "train/contrastive", "lr/head", "lr/backbone"} <= losses[
        0
    ].keys()
    assert {"val/mIoU", "val/AP", "val/PQ"} <= scores[0].keys()
    middle = folder / "model_epoch_001_step_6.pth"
    train(spec_file, *steps, f"train.resume_training_checkpoint_path={middle}")
    assert rows(folder) == straight
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in shown.Scalars("train/loss")] == [3, 6, 9]
    # The validation after step 6 is made again, as its checkpoint was written before it.
    assert [event.step for event in shown.Images("samples/1.png")] == [3, 6, 6, 9]


def test_steps_before_a_stop_are_in_the_curves_too(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(module: TrainingModule, optimizer: object) -> None:
        if module.course.batches_done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, "on_before_zero_grad", stop)
        with pytest.raises(StoppedError):
            train(spec_file, "train.validation_interval=3")
    folder = train(spec_file, "train.validation_interval=3")
    assert [row["step"] for row in rows(folder)] == ["3", "5", "6"]


def test_a_row_is_the_mean_of_the_batches_since_the_last_one(spec_file: Path) -> None:
    folder = train(
        spec_file,
        *("train.num_epochs=1", "train.iters_per_epoch=11", "train.accumulate_grad_batches=2"),
        *("train.validation_interval=2", "train.optim.lr=1e-30", "dataset.train.batch_size=1"),
    )
    found = rows(folder)
    assert [row["step"] for row in found] == ["10", "11"]
    for row in found:  # "loss" is their sum, and not halved because two batches make a step
        parts = sum(float(row[f"train/{name}"]) for name in ("class", "mask", "dice", "contrastive"))
        assert float(row["train/loss"]) == pytest.approx(parts, rel=1e-4)


def test_a_dry_run_tries_everything_and_leaves_nothing(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    train(spec_file, "train.is_dry_run=true", "train.accumulate_grad_batches=2", "train.num_epochs=50")
    assert sorted(tmp_path.rglob("*")) == before
    report = capsys.readouterr().out
    assert report.startswith("dry run: 2 steps went well; nothing is left of them\n")
    for words in ("parameters", "images/s", "peak memory", "written and read back", "for 50 steps"):
        assert words in report
    assert "50 validations of 6 pictures" in report


def test_a_dry_run_fails_as_the_run_would(spec_file: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(SpecError, match="results: is a file"):
        train(spec_file, "train.is_dry_run=true")
    assert (tmp_path / "results").read_text() == "mine"


def test_the_summary_tells_last_and_best_scores_of_all_processes_of_a_run(spec_file: Path, tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / METRICS)
    table.resume(0)
    for epoch, (score, loss) in enumerate([(0.25, 3.0), (0.5, 1.0), (0.4, 2.0)]):
        table.log_metrics({"epoch": epoch, "val/PQ": score, "val/loss": loss, "val/AP": float("nan")}, step=epoch)
    lines = summary(load_spec([spec_file]).spec, tmp_path).splitlines()
    assert lines[:2] == ["PQ 0.400, best 0.500 in epoch 1", "val_loss 2.000, best 1.000 in epoch 1"]
    assert lines[2] == f"trained: {tmp_path}/oneformer_model_latest.pth"


def test_the_next_commands_survive_a_shell_and_the_spec(spec_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it's a #1, $HOME: yes" / "train"
    spec = load_spec([spec_file], ["inference.images_dir=my images/[1]"]).spec
    for task, command in zip(("evaluate", "inference", "export"), next_commands(spec, folder), strict=True):
        program, verb, option, file, *words = shlex.split(command)
        assert (program, verb, option, file) == ("oneformer", task, "-e", f"{folder}/experiment.yaml")
        read = load_spec([spec_file], words).spec
        assert getattr(read, task).checkpoint == f"{folder}/oneformer_model_latest.pth"
    assert read.inference.images_dir == ""
    assert load_spec([], shlex.split(next_commands(spec, folder)[1])[4:]).spec.inference.images_dir == "my images/[1]"
    assert read.export.dynamic_size, "the default of 960 x 544 is not what the network was trained for"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dataset.image_size=[960, 544]"], []),
        (["export.dynamic_size=true"], []),
        (["model.backbone.type=swin"], ["export.dynamic_size=true"]),
        (["model.backbone.type=dinat"], ["export.input_height=800", "export.input_width=1344"]),
        (
            ["model.backbone.type=dinat", "dataset.image_size=[640, 500]"],
            ["export.input_height=512", "export.input_width=640"],
        ),
    ],
)
def test_the_export_that_comes_next_keeps_the_size_of_images(
    tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    command = next_commands(load_spec([], words).spec, tmp_path)[2]
    assert shlex.split(command)[5:] == expected


class TestSamplePictures:
    @pytest.fixture
    def parts(self, spec_file: Path) -> tuple[Any, Manifest]:
        spec = load_spec([spec_file]).spec
        labels = read_labels(spec)
        return open_split(spec.dataset, "val", labels), Manifest.from_spec(spec, labels, {})

    def test_a_picture_shows_the_truth_beside_what_is_found(self, parts: tuple[Any, Manifest]) -> None:
        samples, manifest = parts

        def nothing(image: Any, tokens: Any) -> tuple[Any, Any]:
            logits = np.zeros((len(image), 5, 3), dtype=np.float32)
            logits[..., 2] = 20.0  # no object
            return logits, np.full((len(image), 5, image.shape[2] // 4, image.shape[3] // 4), -9, dtype=np.float32)

        drawn = SamplePictures(samples, manifest, count=3).draw(nothing)
        assert list(drawn) == [samples[index].name for index in (0, 2, 5)]
        for name, picture in drawn.items():
            (sample,) = [sample for sample in samples if sample.name == name]
            assert picture.shape == (48, 128, 3)
            assert np.array_equal(picture[:, 64:], sample.image)
            assert not np.array_equal(picture[:, :64], sample.image)

    def test_large_pictures_are_shrunk_before_they_are_drawn(self, parts: tuple[Any, Manifest]) -> None:
        manifest = parts[1]
        ids = np.zeros((1200, 2000), dtype=np.int32)
        ids[300:900, 500:1500] = 1
        found = Segmentation(Task.PANOPTIC, ids, (Segment(1, 1, "cell", True, 0.5, 600_000, (500, 300, 1000, 600)),))
        picture = half(np.full((1200, 2000, 3), 128, dtype=np.uint8), found, manifest.labels)
        assert picture.shape == (480, 800, 3)
        on_box = (picture[240] == manifest.labels[0].color).all(axis=1)
        assert [on_box[200], on_box[599], on_box[199], on_box[600]] == [True, True, False, False]

    @pytest.mark.parametrize(("task", "count"), [(Task.SEMANTIC, 2), (Task.INSTANCE, 2), (Task.PANOPTIC, 3)])
    def test_annotations_become_a_result(self, parts: tuple[Any, Manifest], task: Task, count: int) -> None:
        samples, manifest = parts
        result = truth(samples[0], task, manifest.labels)
        assert len(result.segments) == count
        assert {segment.id for segment in result.segments} == set(np.unique(result.map).tolist()) - {0}
        assert all(segment.area == (result.map == segment.id).sum() for segment in result.segments)


def test_waiting_for_the_loader_is_told_once_with_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    for clock in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now)
    loader = TimedLoader([0])  # type: ignore[arg-type]
    progress = Progress(RunFolder(tmp_path), loader, total_batches=100)
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer: Any = SimpleNamespace(
        **{"is_global_zero": True, "is_last_batch": False, "world_size": 1, "accumulate_grad_batches": 1},
        **{"current_epoch": 0, "optimizers": [optimizer]},
    )
    spec = load_spec([], ["model.backbone.swin.preset=tiny"]).spec
    weights, points = LossWeights(1, 1, 1, 1), PointOptions(8, 3.0, 0.75)
    criterion = Criterion(num_classes=1, weights=weights, points=points, no_object_weight=0.1, deep_supervision=True)
    network: Any = torch.nn.Identity()
    module = TrainingModule(network, criterion, spec.train, course=Course(100, 2), loss_factor=1, validation=None)
    progress.on_train_start(trainer, module)
    for _ in range(100):
        loader.seconds_waited += 1.0
        progress.on_train_batch_start(trainer, module, None, 0)  # type: ignore[arg-type]
        now += 4.0
        module.course.count()
        batch: Any = SimpleNamespace(names=["a", "b"])
        progress.on_train_batch_end(trainer, module, {"loss": torch.tensor(1.0)}, batch, 0)
    lines = capsys.readouterr().err.splitlines()
    assert "batch 1/100" in lines[0]
    assert "0.40 images/s  20% waiting for data" in lines[1]
    notes = [line for line in lines if line.startswith("note: ")]
    assert len(notes) == 1
    assert "20% of the time training waits for its data: 0 loader processes" in notes[0]
    assert "dataset.train.num_workers" in notes[0]
    statuses = [json.loads(line) for line in (tmp_path / "status.json").read_text().splitlines()]
    assert [(row["status"], row["kpi"]) for row in statuses] == [("RUNNING", {"loss": 1.0})]
