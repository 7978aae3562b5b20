"""Wherever a run is stopped, what follows is what would have followed: weights, validations, files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch

from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError, EncryptionKeyError, OneFormerError, SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.checkpoints.saving import Checkpoints
from oneformer_train.checkpoints.stop_signals import StoppedError
from oneformer_train.command import run

# Three epochs of two steps of two batches; only the second epoch is validated.
SHORT = (
    "train.num_epochs=3",
    "train.iters_per_epoch=2",
    "train.accumulate_grad_batches=2",
    "train.validation_interval=2",
    "train.checkpoint_interval=1",
    "dataset.train.batch_size=1",
)
BEST = ("train.checkpointer.enable_topk=true", "train.checkpointer.monitor=mIoU")


def train(spec_file: Path, *overrides: str) -> Path:
    run(load_spec([spec_file], overrides, task="train").spec)
    return spec_file.parent / "results" / "train"


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Weights and optimiser of every checkpoint of a folder."""
    found = {path.name: checkpoint.read(path) for path in sorted(folder.glob("*.pth"))}
    return {
        name: {"weights": content["state_dict"], "optimizer": content["training"]["optimizer_states"]}
        for name, content in found.items()
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def validations(folder: Path) -> list[int]:
    """The epochs whose scores stand in status.json."""
    lines = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    return [line["epoch"] for line in lines if "mIoU" in line.get("kpi", {})]


class Listener(pl.Callback):
    """Stops a run by a signal in the n-th call of a hook."""

    def __init__(self, hook: str, number: int, act: Callable[[Checkpoints], None]) -> None:
        self.calls = 0

        def listen(trainer: pl.Trainer, *_: object, **__: object) -> None:
            self.calls += 1
            if self.calls == number:
                (own,) = [callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)]
                act(own)

        setattr(self, hook, listen)


def stopped(spec_file: Path, hook: str, number: int, *overrides: str) -> Path:
    """Train, with SIGTERM arriving in the n-th call of a hook; returns the folder."""

    def signal(own: Checkpoints) -> None:
        own._stop.received = 15

    listener, make = Listener(hook, number, signal), pl.Trainer

    def trainer(*, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
        return make(callbacks=[listener, *callbacks], **options)

    with patch("pytorch_lightning.Trainer", trainer), pytest.raises(StoppedError) as caught:
        train(spec_file, *overrides)
    assert caught.value.exit_code == 143
    return spec_file.parent / "results" / "train"


@pytest.fixture
def straight(spec_file: Path) -> Path:
    """The folder of a run that was never stopped."""
    folder = train(spec_file, *SHORT, *BEST)
    return Path(shutil.move(folder, folder.parent / "straight"))


STOPS = [
    ("on_train_batch_end", 1),  # within an accumulation
    ("on_train_batch_end", 4),  # at the end of an epoch that is not validated
    ("on_train_batch_end", 8),  # before the validation
    ("on_train_batch_end", 11),
    ("on_validation_batch_end", 2),
    ("on_validation_end", 1),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_end", 3),
]


def test_a_run_stopped_anywhere_ends_like_one_that_never_stopped(spec_file: Path, straight: Path) -> None:
    wanted = contents(straight)
    assert list(wanted) == ["model_best_001.pth", *(f"model_epoch_00{epoch}.pth" for epoch in range(3)), LATEST]
    for hook, number in STOPS:
        folder = stopped(spec_file, hook, number, *SHORT, *BEST)
        assert not list(folder.glob("*.tmp"))
        train(spec_file, *SHORT, *BEST)
        found = contents(folder)
        assert list(found) == list(wanted), (hook, number)
        assert [name for name in wanted if not same(wanted[name], found[name])] == [], (hook, number)
        assert 1 in validations(folder), (hook, number)
        shutil.rmtree(folder)


def test_a_stop_within_an_accumulation_waits_for_its_end(spec_file: Path) -> None:
    folder = stopped(spec_file, "on_train_batch_end", 5, *SHORT)
    assert checkpoint.read(folder / LATEST)["training"]["batches_done"] == 6


def test_a_validation_within_an_epoch_is_done_once(spec_file: Path) -> None:
    overrides = (*SHORT, *BEST, "train.validation_interval=1", "train.checkpointer.save_top_k=9")
    within = ("train.val_check_interval=0.5", "train.checkpointer.filename=best_{step}")
    folder = train(spec_file, *overrides, *within)
    wanted = contents(folder)
    assert "best_1.pth" in wanted
    for hook, number in (("on_validation_batch_end", 2), ("on_validation_end", 1), ("on_train_batch_end", 6)):
        shutil.rmtree(folder)
        stopped(spec_file, hook, number, *overrides, *within)
        train(spec_file, *overrides, *within)
        assert same(wanted, contents(folder)), (hook, number)


def test_a_checkpoint_of_the_last_step_comes_before_the_validation(spec_file: Path) -> None:
    steps = ("train.checkpoint_interval_unit=step", "train.checkpoint_interval=2", "train.validation_interval=1")
    folder = stopped(spec_file, "on_validation_batch_end", 1, *SHORT, *steps)
    assert (folder / "model_epoch_000_step_2.pth").exists()
    train(spec_file, *SHORT, *steps)
    assert {path.name for path in folder.glob("*.pth")} == {
        LATEST,
        *(f"model_epoch_00{epoch}_step_{2 * epoch + 2}.pth" for epoch in range(3)),
    }
    assert validations(folder) == [0, 1, 2]


def test_best_and_last_checkpoints_stay(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(spec_file, *SHORT, *BEST, "train.checkpointer.keep_last=1", "train.validation_interval=1")
    assert len(list(folder.glob("model_best_*.pth"))) == 1
    assert [path.name for path in folder.glob("model_epoch_*.pth")] == ["model_epoch_002.pth"]
    (folder / LATEST).write_bytes(b"damaged")
    (folder / "model_epoch_002.pth").write_bytes(b"damaged")
    train(spec_file, *SHORT, *BEST, "train.checkpointer.keep_last=1", "train.validation_interval=1")
    errors = capsys.readouterr().err
    assert errors.count("trying the checkpoint before it") == 2
    assert "continuing from" in errors and "model_best_" in errors


def test_an_unknown_metric_is_refused_before_anything_is_written(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=r"'loss' is not measured; there are: mIoU, AP, PQ"):
        train(spec_file, BEST[0], "train.checkpointer.monitor=loss")
    assert not (spec_file.parent / "results").exists()


def test_one_flipped_bit_is_damage(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(spec_file, *SHORT)
    data = bytearray((folder / LATEST).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / LATEST).write_bytes(data)
    train(spec_file, *SHORT)
    assert "checksum" in capsys.readouterr().err


def test_a_full_disk_keeps_the_last_good_checkpoint_and_a_rerun_continues(spec_file: Path, straight: Path) -> None:
    original, writes = torch.save, iter(range(99))

    def full(content: object, file: Any) -> None:
        original(content, file)
        if next(writes) == 1:
            raise OSError(28, "No space left on device")

    folder = spec_file.parent / "results" / "train"
    with patch("torch.save", full), pytest.raises(CheckpointError) as caught:
        train(spec_file, *SHORT, *BEST)
    assert str(caught.value) == (
        f"{folder / LATEST}: cannot be written: No space left on device; the state before it is kept"
    )
    assert checkpoint.read(folder / LATEST)["training"]["epochs_done"] == 1
    assert not list(folder.glob(".*"))
    train(spec_file, *SHORT, *BEST)
    assert same(contents(straight), contents(folder))


def test_a_plan_that_was_not_carried_out_is_completed_even_by_a_finished_run(spec_file: Path) -> None:
    folder = train(spec_file, *SHORT)
    (folder / "model_epoch_002.pth").unlink()
    (folder / f".{LATEST}.0123456789ab.tmp").write_bytes(b"left by kill -9")
    train(spec_file, *SHORT)
    assert same(contents(folder)["model_epoch_002.pth"], contents(folder)[LATEST])
    assert not list(folder.glob(".*"))


class TestEncryption:
    KEY = "encryption_key=s3cret"

    @pytest.fixture(autouse=True)
    def cheap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encryption = pytest.importorskip("oneformer_spec.files.encryption")
        pytest.importorskip("cryptography")
        monkeypatch.setattr(encryption, "COST", encryption.Cost(4, 8, 1))
        monkeypatch.delenv(encryption.KEY_VARIABLE, raising=False)

    def test_every_checkpoint_is_encrypted_and_the_key_is_nowhere(
        self, spec_file: Path, straight: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = stopped(spec_file, "on_train_batch_end", 6, *SHORT, *BEST, self.KEY)
        train(spec_file, *SHORT, *BEST, self.KEY)
        printed = capsys.readouterr()
        files = [path for path in folder.parent.rglob("*") if path.is_file() and straight not in path.parents]
        assert {path.suffix for path in files} >= {".pth", ".yaml", ".json", ".csv"}
        assert [path for path in files if b"s3cret" in path.read_bytes()] == []
        assert "s3cret" not in printed.out + printed.err
        assert 'encryption_key: "<set>"' in (folder / "experiment.yaml").read_text()
        with pytest.raises(EncryptionKeyError, match=r"is encrypted; set encryption_key or ONEFORMER_ENCRYPTION_KEY"):
            checkpoint.read(folder / LATEST)
        monkeypatch.setenv("ONEFORMER_ENCRYPTION_KEY", "s3cret")
        one, other = contents(straight), contents(folder)
        assert same(one[LATEST]["weights"], other[LATEST]["weights"])

    def test_a_wrong_key_stops_the_run_instead_of_falling_back(self, spec_file: Path) -> None:
        folder = train(spec_file, *SHORT, self.KEY)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for key in ((), ("encryption_key=another",)):
            with pytest.raises(EncryptionKeyError, match=rf"{LATEST}: "):
                train(spec_file, *SHORT, *key, "train.num_epochs=4")
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def test_encrypted_weights_can_be_started_from(self, spec_file: Path, tmp_path: Path) -> None:
        first = train(spec_file, *SHORT, self.KEY) / LATEST
        for number, field in enumerate(("train.pretrained_model_path", "model.backbone.pretrained_weights")):
            second = (f"{field}={first}", f"train.results_dir={tmp_path / str(number)}", "train.num_epochs=1")
            train(spec_file, *SHORT, self.KEY, *second)
            with pytest.raises(OneFormerError, match="was encrypted with another encryption_key"):
                train(spec_file, *SHORT, "encryption_key=x", f"{field}={first}", f"train.results_dir={tmp_path / 'x'}")
