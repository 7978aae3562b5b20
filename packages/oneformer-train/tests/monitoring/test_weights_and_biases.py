"""Reporting to Weights & Biases: when it happens, and what its offline mode records."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneformer_spec.loading.load import load_spec
from oneformer_train.monitoring import weights_and_biases
from oneformer_train.monitoring.event_files import TensorBoard
from oneformer_train.monitoring.weights_and_biases import RUN_ID, wandb_logger

BLOCK, HEADER = 32768, 7  # bytes of a block of the log and of the head of a piece


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")


def report(folder: Path, *words: str, continues: bool = False) -> Any:
    folder.mkdir(exist_ok=True)
    logger = wandb_logger(load_spec([], [f"results_dir={folder}", *words]).spec, folder)
    if logger is not None:
        logger.resume(10 if continues else 0)
    return logger


def records(folder: Path) -> list[Any]:
    """Return the records of the offline run in a folder; its file is a log of leveldb's kind, ended in background."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    while True:
        found = [Record.FromString(data) for data in _entries(path.read_bytes())]
        if any(record.HasField("exit") for record in found):
            return found
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)


def _entries(log: bytes) -> Iterator[bytes]:
    position, parts = HEADER, b""  # the file has a head of the same length
    while position + HEADER <= len(log):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", log[position : position + HEADER])
        position += HEADER
        parts += log[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or its last piece
            yield parts
            parts = b""


@pytest.mark.parametrize(
    ("mode", "installed", "words"),
    [
        ("disabled", True, "WANDB_MODE is disabled"),
        ("offline", False, "the package wandb is not installed"),
        ("online", True, "no key is set"),
    ],
)
def test_one_note_says_what_is_missing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    installed: bool,
    words: str,
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(weights_and_biases, "find_spec", lambda name: object() if installed else None)
    assert report(tmp_path / "run") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: wandb.enable: {words}")
    assert line.endswith("this run is not reported to Weights & Biases")


def test_nothing_is_said_where_it_is_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path / "run", "wandb.enable=false") is None
    assert capsys.readouterr().err == ""


class TestOffline:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")

    def test_figures_and_settings_are_recorded_and_the_key_is_not(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        words = ("wandb.project=mine", "wandb.entity=us", "wandb.group=g", "wandb.tags=[a,b]", "wandb.name=n")
        opened = report(folder, *words, "encryption_key=hidden-key")
        opened.log_metrics({"train/loss": 1.5}, step=10)
        opened.finalize("success")
        found = records(folder)
        (run,) = [record.run for record in found if record.HasField("run")]
        assert (run.project, run.entity, run.run_group, list(run.tags)) == ("mine", "us", "g", ["a", "b"])
        assert run.display_name == "n"
        rows = [
            {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            for record in found
            if record.HasField("history")
        ]
        assert [(row["train/loss"], row["_step"]) for row in rows] == [("1.5", "10")]
        assert not any(b"hidden-key" in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    def test_a_run_that_continues_keeps_its_identity_and_a_fresh_one_gets_another(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        identities = []
        for continues in (False, True, False):
            opened = report(folder, continues=continues)
            identities.append(opened.run.id)
            opened.finalize("success")
            assert (folder / RUN_ID).read_text() == identities[-1]
        assert identities[0] == identities[1] != identities[2]
        opened = report(folder, "wandb.run_id=chosen", continues=True)
        opened.finalize("success")
        assert opened.run.id == "chosen"

    def test_the_name_is_derived_from_the_folder_and_the_time(self, tmp_path: Path) -> None:
        opened = report(tmp_path / "cells")
        opened.finalize("success")
        assert opened.run.name.startswith("cells 20")

    def test_a_run_that_was_open_before_takes_the_figures_and_stays_open(self, tmp_path: Path) -> None:
        import wandb

        mine = wandb.init(dir=str(tmp_path), project="mine")
        opened = report(tmp_path / "run")
        assert opened.run is mine
        opened.finalize("success")
        assert wandb.run is mine
        other = report(tmp_path / "run", "wandb.reinit=true")
        assert other.run.id != mine.id
        other.finalize("success")
        assert wandb.run is None

    def test_a_setting_that_is_refused_there_is_a_note(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        refused = report(tmp_path / "run", "wandb.run_id=a/b")
        refused.log_metrics({"train/loss": 1.5}, step=10)
        refused.finalize("success")
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert line.startswith("note: wandb: ")
        assert not (tmp_path / "run" / RUN_ID).exists()

    def test_tensorboard_is_copied_instead_of_reported_twice(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        folder = tmp_path / "run"
        opened = report(folder, "wandb.sync_tensorboard=true")
        board = TensorBoard(folder / "tensorboard")
        board.resume(0)
        for logger in (opened, board):
            logger.log_metrics({"train/loss": 1.5}, step=10)
        board.finalize("success")
        opened.finalize("success")
        assert [record.tbrecord.log_dir for record in records(folder) if record.HasField("tbrecord")] == [
            str(folder / "tensorboard")
        ]

    def test_the_source_is_kept_when_asked_for(self, tmp_path: Path) -> None:
        for name, words in (("without", ()), ("with", ("wandb.save_code=true",))):
            report(tmp_path / name, *words).finalize("success")
        kept = [bool(record.HasField("artifact")) for record in records(tmp_path / "with")]
        assert any(kept)
        assert not any(record.HasField("artifact") for record in records(tmp_path / "without"))
