"""Processes that a run starts end with it, and those that torchrun starts are a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oneformer_data.training.pipeline import pass_order
from oneformer_model.weights import checkpoint
from oneformer_train.checkpoints.resume import LATEST

sys.path.insert(0, str(Path(__file__).parent))
from process import train

LIMIT = 300  # seconds after which a run counts as hanging
SCRIPT = """
import sys
from oneformer_spec.commands.exit import run_reporting
from oneformer_spec.loading.load import load_spec
from oneformer_train.command import run
sys.exit(run_reporting(lambda: run(load_spec([sys.argv[1]], sys.argv[2:], task="train").spec)))
"""
PAIR = ("train.num_gpus=2", "wandb.enable=false", "train.validation_interval=100000", "train.optim.max_iter=1000")


def start(spec_file: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(spec_file), *PAIR, *overrides],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(number) for number in listed]


def errors_of(text: str) -> list[str]:
    """What was said beside notes and progress."""
    return [line for line in text.splitlines() if not line.startswith(("note: ", "epoch "))]


@pytest.fixture
def folder(spec_file: Path) -> Path:
    return spec_file.parent / "results" / "train"


def test_a_signal_stops_all_processes_with_one_checkpoint_and_one_message(spec_file: Path, folder: Path) -> None:
    process = start(spec_file, "train.num_epochs=10000")
    wait_for(folder / "model_epoch_000.pth", process)
    workers = children(process)
    assert len(workers) == 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert errors_of(errors) == [f"stopped by SIGINT; {folder / LATEST} is saved, the same command continues"]
    assert not any(Path(f"/proc/{number}").exists() for number in workers)
    training = checkpoint.read(folder / LATEST)["training"]
    assert training["samples_done"] == 4 * training["batches_done"] == 4 * training["global_step"]


def test_processes_do_not_outlive_the_one_that_started_them(spec_file: Path, folder: Path) -> None:
    process = start(spec_file, "train.num_epochs=10000")
    wait_for(folder / "model_epoch_000.pth", process)
    workers = children(process)
    process.kill()
    process.communicate(timeout=LIMIT)  # also waits until nobody holds its output open
    deadline = time.monotonic() + LIMIT
    while any(Path(f"/proc/{number}/exe").exists() for number in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_error_of_one_process_is_that_of_the_run(spec_file: Path, data: Path, folder: Path) -> None:
    seed, second_process = 1234, 2
    number = int(pass_order(seed, 0, range(6))[second_process]) + 1
    picture = data / "images" / f"{number}.png"
    picture.write_bytes(picture.read_bytes()[:200])
    process = start(spec_file, f"train.seed={seed}")
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    (line,) = errors_of(errors)
    assert line.startswith(str(picture))
    last = json.loads((folder / "status.json").read_text().splitlines()[-1])
    assert (last["status"], last["message"]) == ("FAILURE", line)


def test_a_killed_process_is_named(spec_file: Path, folder: Path) -> None:
    process = start(spec_file, "train.num_epochs=10000")
    wait_for(folder / "model_epoch_000.pth", process)
    os.kill(children(process)[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert errors_of(errors) == ["process 1 of 2 was ended by SIGKILL; the run stopped with it"]


def test_two_machines_of_torchrun_have_the_losses_of_one_process(spec_file: Path, tmp_path: Path) -> None:
    exact = ("model.one_former.dropout=0", "model.backbone.swin.drop_path_rate=0", "train.optim.max_iter=6")
    common = [str(spec_file), "wandb.enable=false", "train.iters_per_epoch=2", "train.num_epochs=1", *exact]
    jobs = [{"words": [*common, "train.num_nodes=2"], "losses": str(tmp_path / "losses")}]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    meeting = ["--master-addr=127.0.0.1", f"--master-port={port}"]
    script = [str(Path(__file__).parent / "process.py"), str(tmp_path / "jobs.json")]
    machines = [subprocess.Popen([*command, *meeting, f"--node-rank={number}", *script]) for number in range(2)]
    assert [machine.wait(timeout=LIMIT) for machine in machines] == [0, 0]
    together = json.loads((tmp_path / "losses.0").read_text())
    one = train([*common, "dataset.train.batch_size=4", f"train.results_dir={tmp_path / 'one'}"])
    assert len(together) == 2
    for first, second in zip(together, one, strict=True):
        assert first == pytest.approx(second, rel=2e-3, abs=2e-3)
