"""Callbacks, loggers, losses and transforms of a third party act, survive a resume, and are named in errors."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oneformer_model.weights import checkpoint
from oneformer_spec.errors import OneFormerError, PluginError
from oneformer_spec.loading import validation
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins import option_types, registry
from oneformer_spec.schema import json_schema, tree
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.command import run
from oneformer_train.monitoring.metrics_table import read_metrics

HERE = Path(__file__).parent
KINDS = {
    "train.loggers": ("logger", "Recorder"),
    "train.callbacks": ("callback", "Counter"),
    "train.losses": ("loss", "area"),
    "dataset.augmentation.extra": ("transform", "stamp"),
}
MODULE = """
from oneformer_spec.hooks import Callback, Logger, Loss, Transform, hookimpl

@hookimpl
def oneformer_loggers(): return [Logger("mine", "tiny_plugin:Recorder", "tiny_plugin:Options")]
@hookimpl
def oneformer_callbacks(): return [Callback("mine", "tiny_plugin:Counter", "tiny_plugin:Options")]
@hookimpl
def oneformer_losses(): return [Loss("mine", "tiny_plugin:area", "tiny_plugin:Options")]
@hookimpl
def oneformer_transforms(): return [Transform("mine", "tiny_plugin:stamp", "tiny_plugin:Options")]
"""
CACHES = (
    *(registry.registry, option_types.option_types, tree.spec_tree, tree.leaves),
    *(json_schema.validation_schema, validation._validator),
)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tiny plugin as the distribution `tiny` 1.2."""
    folder = tmp_path / "site"
    information = folder / "tiny-1.2.dist-info"
    information.mkdir(parents=True)
    (folder / "tiny_hooks.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text("[oneformer]\nmain = tiny_hooks\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    for cache in CACHES:
        cache.cache_clear()
    yield
    sys.modules.pop("tiny_hooks", None)
    for cache in CACHES:
        cache.cache_clear()


def train(spec_file: Path, *overrides: str, name: str = "run") -> Path:
    folder = spec_file.parent / name
    words = ("wandb.enable=false", f"train.results_dir={folder}", *overrides)
    run(load_spec([spec_file], words, task="train").spec)
    return folder


def entry(path: str, options: str = "", *, type: str | None = None, before: str = "") -> str:
    """Return the override that puts one entry into a list."""
    return f"{path}=[{before}{{type: '{type or f'tiny_plugin:{KINDS[path][1]}'}'{options}}}]"


def all_four(type: str | None = None) -> list[str]:
    return [
        entry("train.loggers", type=type, before="csv, "),
        entry("train.callbacks", ", size: 2", type=type),
        entry("train.losses", ", weight: 3", type=type),
        entry("dataset.augmentation.extra", ", size: 9", type=type),
    ]


def assert_acts(folder: Path) -> None:
    lines = (folder / "recorded.txt").read_text().splitlines()
    assert lines[0] == "lr 0.001"
    assert "3 samples/1.png (48, 128, 3)" in lines
    assert lines[-1] == "success"
    rows = read_metrics(folder / "metrics.csv")
    losses = [row for row in rows if "train/loss" in row]
    assert all("train/area" in row for row in losses)
    parts = ("class", "mask", "dice", "contrastive", "area")
    for row in losses:
        assert float(row["train/loss"]) == pytest.approx(sum(float(row[f"train/{name}"]) for name in parts), rel=1e-4)
    assert not (folder / "tensorboard").exists(), "it is not in train.loggers"
    training = checkpoint.read(folder / LATEST)["training"]
    assert [state for name, state in training["callbacks"].items() if "Counter" in name] == [{"batches": 12}]


def test_a_class_path_acts_in_a_run(spec_file: Path) -> None:
    assert_acts(train(spec_file, *all_four()))


@pytest.mark.usefixtures("installed")
def test_a_registered_name_acts_in_a_run(spec_file: Path) -> None:
    assert_acts(train(spec_file, *all_four("mine")))


@pytest.mark.parametrize("path", ["train.losses", "dataset.augmentation.extra"])
def test_a_loss_and_a_transform_change_what_is_learned(spec_file: Path, path: str) -> None:
    short = ("train.num_epochs=1", "train.validation_interval=5")
    plain = checkpoint.read(train(spec_file, *short, name="plain") / LATEST)["state_dict"]
    changed = checkpoint.read(train(spec_file, *short, entry(path)) / LATEST)["state_dict"]
    assert not all(torch.equal(plain[name], changed[name]) for name in plain)


def test_a_resumed_run_ends_like_one_that_never_stopped(spec_file: Path) -> None:
    steps = (*all_four(), "train.checkpoint_interval_unit=step", "train.checkpoint_interval=4")
    steps = (*steps, "dataset.cutmix_prob=0.5", "dataset.train.num_workers=1")
    straight = train(spec_file, *steps, name="straight")
    middle = straight / "model_epoch_001_step_4.pth"
    resumed = train(spec_file, *steps, f"train.resume_training_checkpoint_path={middle}")
    one, other = (checkpoint.read(folder / LATEST) for folder in (straight, resumed))
    assert all(torch.equal(one["state_dict"][name], other["state_dict"][name]) for name in one["state_dict"])
    assert one["training"]["callbacks"] == other["training"]["callbacks"]


def test_two_processes_train_with_all_four(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = train(spec_file, *all_four(), "train.num_gpus=2", "dataset.train.batch_size=1")
    assert_acts(folder)
    assert (folder / "recorded.txt").read_text().count("train/loss") == 2, "only the first process writes metrics"


FAILURES = {
    ("train.callbacks", "batch"): "ValueError: no licence",
    ("train.loggers", "finalize"): "OSError: the server is gone",
    ("train.losses", "shape"): "its term 'area' is a tensor of shape (1,), expected a scalar tensor",
    ("train.losses", "name"): "its term 'mask' has the name of another loss",
    ("train.losses", "type"): "it returned list, expected scalar tensors by name",
    ("dataset.augmentation.extra", "data"): "3.png: ValueError: cannot stamp this",
    ("dataset.augmentation.extra", "type"): "png: it returned ndarray, expected a Sample",
    (
        "dataset.augmentation.extra",
        "large",
    ): "image of 999 x 9, larger than train_crop_size, 64 x 64",
}


@pytest.mark.parametrize(("path", "where"), FAILURES)
def test_a_failure_is_one_line_that_names_the_plugin(spec_file: Path, path: str, where: str) -> None:
    with pytest.raises(PluginError) as caught:
        train(spec_file, entry(path, f", fails_in: {where}"), "train.num_epochs=1", "train.validation_interval=5")
    kind, name = KINDS[path]
    assert str(caught.value).startswith(f"{kind} 'tiny_plugin:{name}' failed: ")
    assert str(caught.value).endswith(FAILURES[path, where])
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_change_nothing_about_an_error(spec_file: Path, workers: int) -> None:
    failing = entry("dataset.augmentation.extra", ", fails_in: data", type="mine")
    with pytest.raises(PluginError) as caught:
        train(spec_file, failing, f"dataset.train.num_workers={workers}")
    assert str(caught.value) == "transform 'mine' of tiny 1.2 failed: 3.png: ValueError: cannot stamp this"
    status = [json.loads(line) for line in (spec_file.parent / "run" / "status.json").read_text().splitlines()]
    assert status[-1]["status"] == "FAILURE"


WRONG = {
    ("train.loggers", "tiny_plugin:not_a_part"): "expected a Logger of pytorch_lightning",
    ("train.callbacks", "tiny_plugin:not_a_part"): "found builtins.object, expected a Callback of pytorch_lightning",
    ("train.callbacks", "pytorch_lightning.callbacks:ModelCheckpoint"): "train.checkpointer.* says",
    ("train.callbacks", "pytorch_lightning.callbacks:TQDMProgressBar"): "a run has one already",
    ("train.losses", "torch.nn:BCELoss"): "failed: ",
    ("train.losses", "torch.nn:PReLU"): "has parameters of its own, which nothing would train",
    ("train.loggers", "not_here.mod:Logger"): "not_here",
}


@pytest.mark.parametrize(("path", "type"), WRONG)
def test_what_is_no_such_part_is_refused(spec_file: Path, path: str, type: str) -> None:
    with pytest.raises(OneFormerError) as caught:
        train(spec_file, entry(path, type=type))
    assert WRONG[path, type] in str(caught.value)
    assert type in str(caught.value)


def test_lightnings_own_parts_need_no_plugin(spec_file: Path) -> None:
    folder = spec_file.parent / "theirs"
    words = [
        f"train.loggers=[{{type: 'pytorch_lightning.loggers:CSVLogger', save_dir: '{folder}'}}]",
        "train.callbacks=[{type: 'pytorch_lightning.callbacks:EarlyStopping', monitor: mIoU, mode: max, patience: 1}]",
        *("train.num_epochs=9", "train.optim.lr=1e-30", "train.optim.weight_decay=0"),
    ]
    run_folder = train(spec_file, *words)
    (written,) = folder.rglob("metrics.csv")
    assert "train/loss" in written.read_text()
    assert not (run_folder / "metrics.csv").exists()
    assert checkpoint.read(run_folder / LATEST)["training"]["epochs_done"] == 2


def test_a_dry_run_uses_losses_and_callbacks_and_reports_to_nobody(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(spec_file.parent.rglob("*"))
    train(spec_file, *all_four(), "train.is_dry_run=true")
    assert sorted(spec_file.parent.rglob("*")) == before
    with pytest.raises(PluginError, match="no licence"):
        train(spec_file, entry("train.callbacks", ", fails_in: batch"), "train.is_dry_run=true")
