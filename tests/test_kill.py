"""Runs that are killed, told to stop, or out of disk: every restart continues, and nothing is lost.

Runs are processes of their own, forked from one that has imported everything. Five moments lie within the writing of
checkpoints, where the process kills itself; five are any time, where it is killed from outside.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from acts.row import filled
from acts.settings import SETTINGS, copy_data

from oneformer_model.weights import checkpoint

RUN = (
    "dataset.train.batch_size=1",
    "dataset.train.num_workers=2",
    "dataset.val.annotations=",
    "train.num_epochs=8",
    "train.iters_per_epoch=3",
    "train.accumulate_grad_batches=2",
    "train.optim.lr_scheduler=WarmupPoly",
    "train.optim.warmup_iters=3",
    "train.checkpoint_interval_unit=step",
    "train.checkpoint_interval=1",
    "train.checkpointer.keep_last=2",
)
LATEST = "oneformer_model_latest.pth"
# The calls of a function that lie within the first few writes of a run after it has said where it continues.
WITHIN_WRITING = {"fsync": (6, 19), "replace": (3, 9), "replaced": (3, 9), "unlink": (2, 3)}
START_METHOD = multiprocessing.get_start_method()  # of loader processes; that of the run itself would be passed on
SECONDS = 300  # until something that takes a second on an idle machine counts as stuck


def train(words: tuple[str, ...], log: str, moment: tuple[str, int] | None, most: int | None) -> None:
    """Run the command in a process group of its own.

    With a moment, kill this process at the n-th call of a function that writing needs. `most` bytes are what a file can
    hold, as on a disk that is full.
    """
    multiprocessing.set_start_method(START_METHOD, force=True)
    os.setpgrp()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    if moment is not None:
        _kill_self_at(*moment)
    from oneformer_spec.commands.exit import run_reporting
    from oneformer_spec.commands.task_command import run_task
    from oneformer_spec.plugins.registry import registry

    code = run_reporting(lambda: run_task(registry().command("train"), (), words))
    sys.stdout.flush()
    os._exit(code)


def _kill_self_at(step: str, number: int) -> None:
    name, after = ("replace", True) if step == "replaced" else (step, False)
    original, calls = getattr(os, name), iter(range(1, 1_000_000))

    def count(*arguments: Any, **options: Any) -> Any:
        due = next(calls) == number
        if due and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, name, count)


class Runs:
    """Starts and kills runs in one folder, and remembers the processes that they started."""

    def __init__(self, words: tuple[str, ...], log: Path) -> None:
        self.words, self.log = words, log
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["oneformer_train.command", "oneformer_model.runtime", "acts.settings"])
        self.children: set[int] = set()

    def start(self, moment: tuple[str, int] | None = None, most: int | None = None) -> BaseProcess:
        process = self.context.Process(target=train, args=(self.words, str(self.log), moment, most))
        process.start()
        return process

    def end(self, process: BaseProcess) -> int | None:
        """Wait until a run has ended and return its exit code."""
        self.wait(lambda: not process.is_alive(), process)
        return process.exitcode

    def wait(self, happened: Callable[[], bool], process: BaseProcess) -> None:
        deadline = time.monotonic() + SECONDS
        while not happened() and process.is_alive():
            self._note_children(process)
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.002)

    def _note_children(self, process: BaseProcess) -> None:
        try:
            found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        except OSError:
            return
        self.children |= {int(number) for number in found.split()}


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


@pytest.fixture
def runs(repository: Path, tmp_path: Path) -> Runs:
    (tmp_path / "data").mkdir()
    copy_data(repository / "examples" / "nuclei", tmp_path / "data")
    places = {"run": tmp_path, "data": tmp_path / "data", "model": tmp_path / "none"}
    return Runs((*filled(SETTINGS, places), *RUN), tmp_path / "log.txt")


def test_kill_9_at_ten_moments_loses_nothing(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "train"
    assert runs.end(runs.start()) == 0, runs.log.read_text()
    straight = folder.rename(tmp_path / "straight")

    moments, leftovers = random.Random(7), 0
    for number in range(10):
        if number % 2:
            step = moments.choice(list(WITHIN_WRITING))
            process = runs.start((step, moments.randint(*WITHIN_WRITING[step])))
        else:
            process = runs.start()
            before = _written(folder)
            runs.wait(lambda before=before: _written(folder) != before, process)  # type: ignore[misc]
            time.sleep(moments.random() * 0.15)
            process.kill()
        assert runs.end(process) == -signal.SIGKILL, runs.log.read_text()
        leftovers += len(list(folder.glob(".*.tmp")))
    assert runs.end(runs.start()) == 0, runs.log.read_text()

    log = runs.log.read_text()
    assert "Traceback" not in log
    assert log.count("continuing from") >= 8  # a kill may come before a run has said it
    assert log.count("batch 1/48 ") == 2, "besides the straight run and the first one, a run began anew"
    assert leftovers > 0, "no kill came in the middle of a write"
    assert _names(folder) == _names(straight)
    for path in sorted(straight.glob("*.pth")):
        assert _state(path) == _state(folder / path.name), path.name
    deadline = time.monotonic() + SECONDS
    while any(Path(f"/proc/{child}").exists() for child in runs.children):
        assert time.monotonic() < deadline, "loader processes outlived their run"
        time.sleep(0.1)
    assert len(runs.children) > 2
    shutil.rmtree(folder)


def test_a_full_disk_ends_with_one_line_and_a_rerun_continues(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "train"
    process = runs.start()
    runs.wait(lambda: _written(folder) > 0, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert runs.end(process) == 128 + signal.SIGTERM
    before, said = (folder / LATEST).read_bytes(), len(runs.log.read_text())
    assert runs.end(runs.start(most=len(before) // 2)) == 1
    log = runs.log.read_text()[said:]
    assert f"{folder / LATEST}: cannot be written: File too large; the state before it is kept" in log.splitlines()
    assert (folder / LATEST).read_bytes() == before
    assert not list(folder.glob(".*"))
    assert runs.end(runs.start()) == 0
    assert runs.log.read_text().count("continuing from") == 2


def test_sigterm_to_all_processes_of_a_run_saves_first(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "train"
    process = runs.start()
    runs.wait(lambda: _written(folder) > 0, process)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGTERM)
    assert runs.end(process) == 128 + signal.SIGTERM, runs.log.read_text()
    log = runs.log.read_text()
    assert log.splitlines()[-1] == f"stopped by SIGTERM; {folder / LATEST} is saved, the same command continues"
    assert "Traceback" not in log


def _written(folder: Path) -> int:
    """The time of the newest state, 0 where there is none."""
    try:
        return (folder / LATEST).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _state(path: Path) -> tuple[list[tuple[str, bytes]], str]:
    """Every bit of the weights; and the optimiser, the schedule and the position as text."""
    content = checkpoint.read(path)
    training = content["training"]
    weights = [(name, value.numpy().tobytes()) for name, value in content["state_dict"].items()]
    return weights, _text({name: training[name] for name in ("optimizer_states", "lr_schedulers", "samples_done")})


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return str(value.numpy().tobytes())
    if isinstance(value, dict):
        return str({name: _text(item) for name, item in value.items()})
    return str([_text(item) for item in value]) if isinstance(value, list | tuple) else repr(value)
