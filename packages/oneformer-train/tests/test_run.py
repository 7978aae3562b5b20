"""The command: what it leaves behind, and that an interrupted run ends where an uninterrupted one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from oneformer_model.weights import checkpoint
from oneformer_spec.errors import CheckpointError, DataError, OneFormerError, SpecError
from oneformer_spec.loading.load import load_spec
from oneformer_train.checkpoints.resume import LATEST
from oneformer_train.command import run

FOREVER = 10_000
SCRIPT = """
import sys
from oneformer_spec.commands.exit import run_reporting
from oneformer_spec.loading.load import load_spec
from oneformer_train.command import run
sys.exit(run_reporting(lambda: run(load_spec([sys.argv[1]], sys.argv[2:], task="train").spec)))
"""


def train(spec_file: Path, *overrides: str) -> Path:
    run(load_spec([spec_file], overrides, task="train").spec)
    return spec_file.parent / "results" / "train"


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = checkpoint.read(path)["state_dict"]
    return state


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def start(spec_file: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(spec_file), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def test_a_run_leaves_checkpoints_status_and_the_spec_that_reproduces_it(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(spec_file)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "experiment.yaml",
        "status.json",
        "metrics.csv",
        "tensorboard",
        "model_epoch_000.pth",
        "model_epoch_001.pth",
        "oneformer_model_latest.pth",
    }
    lines = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]
    assert {"class", "mask", "dice", "contrastive", "loss", "mIoU", "AP", "PQ"} <= lines[1]["kpi"].keys()
    assert_same_weights(folder / "model_epoch_001.pth", folder / "oneformer_model_latest.pth")
    again = load_spec([folder / "experiment.yaml"]).spec
    assert again.train.optim.lr == 1e-3
    printed = capsys.readouterr()
    assert "oneformer evaluate" in printed.out
    assert "validation: mIoU" in printed.err


def test_training_learns(spec_file: Path) -> None:
    folder = train(spec_file, "train.num_epochs=4", "train.iters_per_epoch=10", "train.validation_interval=4")
    lines = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    losses = [line["kpi"]["loss"] for line in lines if line["status"] == "RUNNING"]
    assert losses[-1] < 0.8 * losses[0]


def test_a_finished_run_is_left_as_it_is(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(spec_file)
    before = contents(folder)
    train(spec_file)
    assert contents(folder) == before
    assert "all 2 epochs are trained" in capsys.readouterr().out


def test_a_longer_run_continues_and_ends_like_one_that_never_stopped(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The schedule looks at the length of the run, so it is fixed for the comparison.
    fixed = ("train.optim.max_iter=9", "train.optim.warmup_iters=2")
    straight = train(spec_file, "train.num_epochs=3", *fixed)
    shutil.move(straight, straight.parent / "straight")
    train(spec_file, "train.num_epochs=1", *fixed)
    folder = train(spec_file, "train.num_epochs=3", *fixed)
    assert "continuing from" in capsys.readouterr().err
    assert_same_weights(
        folder / "oneformer_model_latest.pth", straight.parent / "straight" / "oneformer_model_latest.pth"
    )


@pytest.mark.parametrize("step", [4, 6])
def test_a_run_continues_in_the_middle_of_an_epoch_and_at_its_last_step(spec_file: Path, step: int) -> None:
    steps = ("train.checkpoint_interval_unit=step", f"train.checkpoint_interval={step}", "train.num_epochs=3")
    straight = train(spec_file, *steps)
    folder = straight.parent / "straight"
    shutil.move(straight, folder)
    middle = folder / f"model_epoch_001_step_{step}.pth"
    resumed = train(spec_file, *steps, f"train.resume_training_checkpoint_path={middle}")
    assert_same_weights(resumed / "oneformer_model_latest.pth", folder / "oneformer_model_latest.pth")


def test_ctrl_c_saves_and_the_same_command_continues(spec_file: Path) -> None:
    overrides = (f"train.num_epochs={FOREVER}", "train.optim.max_iter=1000", "train.validation_interval=10000")
    folder = spec_file.parent / "results" / "train"
    process = start(spec_file, *overrides)
    wait_for(folder / "model_epoch_000.pth", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("stopped by SIGINT")
    assert "Traceback" not in errors
    done = checkpoint.read(folder / "oneformer_model_latest.pth")["training"]["batches_done"]
    again = start(spec_file, *overrides)
    wait_for(folder / f"model_epoch_{done // 3 + 1:03d}.pth", again)
    again.send_signal(signal.SIGTERM)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 143
    assert f"{done} batches are done" in errors


def test_kill_9_leaves_a_run_that_continues(spec_file: Path) -> None:
    folder = spec_file.parent / "results" / "train"
    process = start(spec_file, f"train.num_epochs={FOREVER}", "train.optim.max_iter=1000")
    wait_for(folder / "model_epoch_001.pth", process)
    process.kill()
    process.communicate()
    epochs = checkpoint.read(folder / "oneformer_model_latest.pth")["training"]["epochs_done"]
    train(spec_file, f"train.num_epochs={epochs + 1}", "train.optim.max_iter=1000")
    assert (folder / f"model_epoch_{epochs:03d}.pth").exists()


def test_a_damaged_latest_falls_back_to_the_one_before(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(spec_file)
    (folder / "oneformer_model_latest.pth").write_bytes(b"damaged")
    train(spec_file, "train.num_epochs=3")
    errors = capsys.readouterr().err
    assert "trying the checkpoint before it" in errors
    assert "model_epoch_001.pth" in errors


def test_weights_alone_cannot_be_resumed(spec_file: Path) -> None:
    folder = train(spec_file, "train.num_epochs=1")
    content = checkpoint.read(folder / "oneformer_model_latest.pth")
    del content["training"]
    torch.save(content, folder / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights\.pth: holds weights but no state of training"):
        train(spec_file, f"train.resume_training_checkpoint_path={folder}/weights.pth")


def test_wrong_data_stops_before_anything_is_written(spec_file: Path, data: Path) -> None:
    (data / "images" / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        train(spec_file)
    assert not (spec_file.parent / "results").exists()


def test_a_results_dir_that_is_a_file_is_one_clear_error(spec_file: Path) -> None:
    (spec_file.parent / "results").write_text("mine")
    with pytest.raises(OneFormerError, match="results: is a file"):
        train(spec_file)
    assert (spec_file.parent / "results").read_text() == "mine"


def test_the_number_of_workers_does_not_change_the_result(spec_file: Path) -> None:
    alone = train(spec_file, "train.num_epochs=1", "train.validation_interval=5")
    shutil.move(alone, alone.parent / "alone")
    many = train(spec_file, "train.num_epochs=1", "train.validation_interval=5", "dataset.train.num_workers=2")
    assert_same_weights(many / "oneformer_model_latest.pth", alone.parent / "alone" / "oneformer_model_latest.pth")


def test_the_length_of_the_task_reaches_the_network(spec_file: Path) -> None:
    folder = train(spec_file, "dataset.task_seq_len=40", "train.num_epochs=1")
    content = checkpoint.read(folder / "oneformer_model_latest.pth")
    assert checkpoint.restore(content, folder)(torch.zeros(1, 3, 64, 64), torch.zeros(1, 40)).class_logits.shape[0] == 1


def test_a_device_that_is_not_there_is_an_error(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=rf"^train\.gpu_ids: 70: torch sees {torch.cuda.device_count()} GPUs here$"):
        train(spec_file, "train.gpu_ids=[70]")
    assert not (spec_file.parent / "results").exists()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_run_that_is_not_reported_says_so(spec_file: Path, capsys: pytest.CaptureFixture[str], enabled: bool) -> None:
    train(spec_file, f"wandb.enable={str(enabled).lower()}", "train.num_epochs=1")
    assert ("note: wandb.enable: " in capsys.readouterr().err) == enabled


def test_a_run_gives_the_signals_back(spec_file: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(spec_file, "train.num_epochs=1", "train.validation_interval=5")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_training_starts_from_pretrained_weights_and_resuming_wins_over_them(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(spec_file)
    first = folder / "oneformer_model_latest.pth"
    still = ("train.num_epochs=1", "train.optim.lr=1e-30", "train.optim.weight_decay=0")
    begun = f"train.pretrained_model_path={first}"
    second = tmp_path / "second"
    train(spec_file, begun, f"train.results_dir={second}", *still)
    assert_same_weights(first, second / LATEST)
    third = tmp_path / "third"
    train(spec_file, f"model.backbone.pretrained_weights={first}", f"train.results_dir={third}", *still)
    one, other = weights(first), weights(third / LATEST)
    same = {name for name in one if torch.equal(one[name], other[name])}
    assert {name for name in one if name.startswith("backbone.")} <= same
    assert "query_decoder.class_head.weight" not in same
    capsys.readouterr()
    train(spec_file, f"train.pretrained_model_path={spec_file}", f"train.resume_training_checkpoint_path={first}")
    assert "all 2 epochs are trained" in capsys.readouterr().out


def test_heads_of_other_classes_start_anew_when_the_spec_says_so(
    spec_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(spec_file, "train.num_epochs=1") / LATEST
    rows = json.loads((data / "label_map.json").read_text())
    (data / "label_map.json").write_text(json.dumps([*rows, {"id": 3, "name": "sky", "isthing": 0}]))
    more = ("model.sem_seg_head.num_classes=3", f"train.pretrained_model_path={first}", "train.num_epochs=1")
    with pytest.raises(CheckpointError, match=r"misshapen: query_decoder\.class_head\.weight .*train\.reinit_heads"):
        train(spec_file, *more, f"train.results_dir={tmp_path / 'second'}")
    capsys.readouterr()
    train(spec_file, *more, "train.reinit_heads=true", f"train.results_dir={tmp_path / 'third'}")
    assert "2 classes became 3: started anew: query_decoder.class_head.weight" in capsys.readouterr().err
