"""Which files stay, whatever happens between two of them."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import pytest

from oneformer_spec.errors import CheckpointError, SpecError
from oneformer_spec.schema import Checkpointer
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.checkpoints.retention import Retention, best_name, check_names, pattern

TOP = Checkpointer(enable_topk=True, monitor="PQ", save_top_k=2)


class Run:
    """Saves states in a folder as a run does, with a number for a state."""

    def __init__(self, folder: Path, options: Checkpointer) -> None:
        self.folder = folder
        self.retention = Retention(folder, options)
        self.clock = itertools.count(1)

    def save(self, epoch: int, score: float | None = None, *, settle: bool = True) -> None:
        values = None if score is None else {"epoch": epoch, "step": 10 * epoch, "PQ": score}
        self.retention.plan(f"model_epoch_{epoch:03d}.pth", values)
        latest = self.folder / LATEST
        latest.write_text(f"{epoch}")
        os.utime(latest, (1, next(self.clock)))  # far in the past, so that every copy is newer
        if settle:
            self.retention.settle(latest)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name != LATEST)


def test_all_periodic_checkpoints_stay_by_default(tmp_path: Path) -> None:
    run = Run(tmp_path, Checkpointer())
    for epoch in range(4):
        run.save(epoch, 0.5)
    assert run.names() == [f"model_epoch_{epoch:03d}.pth" for epoch in range(4)]
    assert (tmp_path / "model_epoch_002.pth").read_text() == "2"


def test_keep_last_keeps_the_newest_periodic_ones(tmp_path: Path) -> None:
    run = Run(tmp_path, Checkpointer(keep_last=2))
    for epoch in range(4):
        run.save(epoch)
    assert run.names() == ["model_epoch_002.pth", "model_epoch_003.pth"]


def test_what_the_run_did_not_write_is_never_deleted(tmp_path: Path) -> None:
    others = ["model_epoch_000.pth.bak", "model_best_mine.pth", "model_epoch_900.pth", "notes.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    run = Run(tmp_path, dataclasses.replace(TOP, keep_last=1, save_top_k=1))
    for epoch, score in enumerate([0.1, 0.2, 0.3]):
        run.save(epoch, score)
    assert run.names() == sorted([*others, "model_epoch_002.pth", "model_best_002.pth"])
    assert all((tmp_path / name).read_text() == "mine" for name in others)


@pytest.mark.parametrize(
    ("mode", "monitor", "kept"),
    [("max", "PQ", [1, 3]), ("min", "PQ", [0, 2]), (None, "PQ", [1, 3]), (None, "val_loss", [0, 2])],
)
def test_the_best_stay_by_mode(tmp_path: Path, mode: str | None, monitor: str, kept: list[int]) -> None:
    run = Run(tmp_path, dataclasses.replace(TOP, monitor=monitor, mode=mode, replace_periodic=True))
    for epoch, score in enumerate([0.2, 0.8, 0.1, 0.9, float("nan"), 0.5]):
        values = {"epoch": epoch, "step": epoch, monitor: score}
        run.retention.plan(f"model_epoch_{epoch:03d}.pth", values)
        (tmp_path / LATEST).write_text(f"{epoch}")
        os.utime(tmp_path / LATEST, (1, 1))
        run.retention.settle(tmp_path / LATEST)
    assert run.names() == [f"model_best_{epoch:03d}.pth" for epoch in kept]
    assert [(tmp_path / name).read_text() for name in run.names()] == [str(epoch) for epoch in kept]


def test_of_equal_scores_the_earlier_stays(tmp_path: Path) -> None:
    run = Run(tmp_path, dataclasses.replace(TOP, save_top_k=1, replace_periodic=True))
    for epoch in range(3):
        run.save(epoch, 0.5)
    assert run.names() == ["model_best_000.pth"]


def test_one_name_is_one_file_and_holds_its_best(tmp_path: Path) -> None:
    run = Run(tmp_path, dataclasses.replace(TOP, filename="best", replace_periodic=True))
    for epoch, score in enumerate([0.5, 0.7, 0.6]):
        run.save(epoch, score)
    assert run.names() == ["best.pth"]
    assert (tmp_path / "best.pth").read_text() == "1"


def test_the_state_survives_a_restart(tmp_path: Path) -> None:
    options = dataclasses.replace(TOP, keep_last=1)
    run = Run(tmp_path, options)
    for epoch, score in enumerate([0.9, 0.8, 0.1]):
        run.save(epoch, score)
    again = Run(tmp_path, options)
    again.retention.load(run.retention.state(), tmp_path / LATEST)
    again.save(3, 0.85)
    assert again.names() == ["model_best_000.pth", "model_best_003.pth", "model_epoch_003.pth"]


def test_a_run_that_was_killed_after_its_latest_state_completes_its_plan(tmp_path: Path) -> None:
    options = dataclasses.replace(TOP, keep_last=1, save_top_k=1)
    run = Run(tmp_path, options)
    run.save(0, 0.1)
    run.save(1, 0.2, settle=False)
    assert run.names() == ["model_best_000.pth", "model_epoch_000.pth"]
    again = Run(tmp_path, options)
    again.retention.load(run.retention.state(), tmp_path / LATEST)
    again.retention.settle(tmp_path / LATEST, again=True)
    assert again.names() == ["model_best_001.pth", "model_epoch_001.pth"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again.retention.settle(tmp_path / LATEST, again=True)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_nothing_is_deleted_before_the_copies_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, Checkpointer(keep_last=1))
    run.save(0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"model_epoch_001\.pth: cannot be written: No space left on device; .*"):
        run.save(1)
    assert run.names() == ["model_epoch_000.pth"]
    assert (tmp_path / LATEST).read_text() == "1"


def test_best_ones_have_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run", dataclasses.replace(TOP, dirpath=f"{tmp_path}/best", save_top_k=1))
    run.save(0, 0.1)
    run.save(1, 0.2)
    assert os.listdir(tmp_path / "best") == ["model_best_001.pth"]
    assert run.names() == ["model_epoch_000.pth", "model_epoch_001.pth"]
    with pytest.raises(SpecError, match=r"checkpointer\.dirpath: .*model_best_001\.pth is another run's"):
        Retention(tmp_path / "second", run.retention.options).check_unused()


def test_a_run_that_goes_on_elsewhere_leaves_the_first_folder_alone(tmp_path: Path) -> None:
    options = dataclasses.replace(TOP, keep_last=1)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = Run(tmp_path / "first", options), Run(tmp_path / "second", options)
    first.save(0, 0.9)
    second.retention.load(first.retention.state(), tmp_path / "first" / LATEST)
    second.save(1, 0.1)
    assert first.names() == ["model_best_000.pth", "model_epoch_000.pth"]
    assert second.names() == ["model_best_001.pth", "model_epoch_001.pth"]


def test_another_folder_for_the_best_ones_starts_with_none(tmp_path: Path) -> None:
    run = Run(tmp_path, TOP)
    run.save(0, 0.9)
    again = Run(tmp_path, dataclasses.replace(TOP, dirpath=f"{tmp_path}/best", save_top_k=1))
    again.retention.load(run.retention.state(), tmp_path / LATEST)
    again.save(1, 0.1)
    assert os.listdir(tmp_path / "best") == ["model_best_001.pth"]
    assert "model_best_000.pth" in run.names()


@pytest.mark.parametrize(
    ("template", "insert", "name"),
    [
        ("model_best_{epoch:03d}", False, "model_best_007.pth"),
        ("model_best_{epoch:03d}", True, "model_best_epoch=007.pth"),
        ("{step}-{PQ:.2f}", False, "1200-0.46.pth"),
        ("{step}-{PQ:.2f}", True, "step=1200-PQ=0.46.pth"),
        ("best {{x}} [1]", False, "best {x} [1].pth"),
    ],
)
def test_names_are_filled_in(tmp_path: Path, template: str, insert: bool, name: str) -> None:
    options = dataclasses.replace(TOP, filename=template, auto_insert_metric_name=insert)
    assert best_name(options, {"epoch": 7, "step": 1200, "PQ": 0.4567}) == name
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.glob(pattern(options))] == [name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"monitor": "val_PQ"}, r"checkpointer\.monitor: 'val_PQ' is not measured; there are: mIoU, PQ"),
        ({"filename": "{AP}"}, r"checkpointer\.filename: \{AP\} is not known; there are: epoch, step, mIoU, PQ"),
        ({"filename": "{epoch.real}"}, r"\{epoch\.real\} is not known"),
        ({"filename": "{PQ:03d}"}, r"checkpointer\.filename: \{PQ:03d\}: "),
        ({"filename": "{epoch"}, r"checkpointer\.filename: '\{epoch': "),
        ({"filename": "best/{epoch}"}, r"is no name of a file; train\.checkpointer\.dirpath names the folder"),
        ({"filename": "model_epoch_{epoch:03d}"}, r"'model_epoch_000\.pth' is the name of another checkpoint"),
        ({"filename": "oneformer_model_latest"}, r"is the name of another checkpoint of the run"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run(change: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_names(dataclasses.replace(TOP, **change), ("mIoU", "PQ"))  # type: ignore[arg-type]


def test_without_validation_there_is_nothing_to_monitor() -> None:
    with pytest.raises(SpecError, match=r"'PQ' is not measured; nothing is: dataset\.val is not set"):
        check_names(TOP, ())
    check_names(Checkpointer(monitor="nonsense"), ())  # nothing is ranked
