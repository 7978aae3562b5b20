"""Evaluators of plugins in training: their headline numbers count like ours, and a failure names its evaluator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneformer_data.evaluation import loop
from oneformer_model.weights import checkpoint
from oneformer_spec.errors import PluginError, SpecError
from oneformer_spec.hooks import Evaluator
from oneformer_spec.loading.load import load_spec
from oneformer_spec.plugins import headlines
from oneformer_spec.plugins.registry import registry
from oneformer_train.command import run

ONE_EPOCH = ("train.num_epochs=1", "train.iters_per_epoch=2")


class Counting:
    """Counts images; gives numpy's numbers."""

    def __init__(self, labels: object) -> None:
        self.images = 0

    def update(self, sample: object, segmentation: object) -> None:
        self.images += 1

    def merge(self, other: Counting) -> None:
        self.images += other.images

    def compute(self) -> dict[str, Any]:
        return {"counted": {"images": np.int64(self.images), "half": np.float32(self.images / 2), "all": np.arange(2)}}


class FailsAtTheSecondImage(Counting):
    """Raises as a plugin's bug does."""

    def update(self, sample: object, segmentation: object) -> None:
        super().update(sample, segmentation)
        if self.images == 2:
            raise ZeroDivisionError("division by zero")


class FailsInTheEnd(Counting):
    """Raises when the images of all processes are counted."""

    def compute(self) -> dict[str, Any]:
        raise KeyError("areas")


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install an evaluator of this module beside ours."""

    def install(kind: type) -> None:
        numbers = {"images": ("counted", "images"), "half": ("counted", "half")}
        more = Evaluator("counting", f"{__name__}:{kind.__name__}", "semantic", numbers)
        found = replace(registry(), evaluators={**registry().evaluators, "counting": more})
        for module in (loop, headlines):
            monkeypatch.setattr(module, "registry", lambda: found)

    return install


def train(spec_file: Path, *overrides: str) -> Path:
    run(load_spec([spec_file], [*ONE_EPOCH, *overrides], task="train").spec)
    return spec_file.parent / "results" / "train"


def test_its_numbers_are_shown_logged_and_choose_the_best_checkpoint(
    spec_file: Path, score: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    score(Counting)
    words = ("enable_topk=true", "monitor=half", "filename=best_{half:.1f}", "auto_insert_metric_name=false")
    folder = train(spec_file, *(f"train.checkpointer.{word}" for word in words))
    line = next(line for line in capsys.readouterr().err.splitlines() if "validation: " in line)
    names = line.partition("validation: ")[2].split()[::2]
    assert names == ["mIoU", "images", "half", "AP", "PQ", "val_loss"]
    status = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    assert status[-2]["kpi"]["images"] == 6
    assert "val/half" in (folder / "metrics.csv").read_text()
    assert (folder / "best_3.0.pth").exists()


def test_a_number_that_no_evaluator_has_cannot_be_monitored(spec_file: Path, score: Any) -> None:
    score(Counting)
    with pytest.raises(SpecError, match=r"'third' is not measured; .*images.*half"):
        train(spec_file, "train.checkpointer.enable_topk=true", "train.checkpointer.monitor=third")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (FailsAtTheSecondImage, r"^the evaluator 'counting' fails: ZeroDivisionError: division by zero$"),
        (FailsInTheEnd, r"^the evaluator 'counting' fails: KeyError: 'areas'$"),
    ],
)
def test_a_failure_stops_the_run_after_the_checkpoint_of_the_epoch(
    spec_file: Path, score: Any, kind: type, message: str
) -> None:
    score(kind)
    with pytest.raises(PluginError, match=message):
        train(spec_file)
    folder = spec_file.parent / "results" / "train"
    assert checkpoint.read(folder / "model_epoch_000.pth")["training"]["epochs_done"] == 1
    last = json.loads((folder / "status.json").read_text().splitlines()[-1])
    assert last["status"] == "FAILURE"
    assert last["message"].startswith("the evaluator 'counting' fails: ")


def test_a_failure_within_an_epoch_stops_the_run_when_that_state_is_saved(spec_file: Path, score: Any) -> None:
    score(FailsInTheEnd)
    with pytest.raises(PluginError, match=r"^the evaluator 'counting' fails"):
        train(spec_file, "train.val_check_interval=0.5")
    latest = checkpoint.read(spec_file.parent / "results" / "train" / "oneformer_model_latest.pth")
    assert latest["training"]["global_step"] == 1
