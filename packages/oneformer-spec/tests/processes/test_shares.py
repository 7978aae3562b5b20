"""Several processes do what one does, fail as one does, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneformer_spec.commands.exit import Terminated
from oneformer_spec.errors import OneFormerError, SpecError
from oneformer_spec.processes import threads as cores
from oneformer_spec.processes.shares import open_work
from oneformer_spec.processes.world import World, machine_rank
from oneformer_spec.schema import Spec

TARGET = "worker_targets:open_acting"
LIMIT = 300  # seconds after which something counts as hanging


@pytest.fixture(autouse=True)
def targets(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")


def spec(count: int, nodes: int = 1) -> Spec:
    section = replace(Spec().inference, num_gpus=count, gpu_ids=tuple(range(count)), num_nodes=nodes)
    return replace(Spec(), inference=section)


def run(
    folder: Path, *, count: int = 2, opening: Mapping[int, str] | None = None, running: Mapping[int, str] | None = None
) -> tuple[list[tuple[World, list[int], str]], list[tuple[int, int]]]:
    """Return the results, and what was reported."""
    reported: list[tuple[int, int]] = []
    with open_work(TARGET, spec(count), "inference", folder, opening or {}, running or {}) as work:
        assert list(folder.iterdir()) == []
        return work.run(lambda *counts: reported.append(counts)), reported


def gone(folder: Path, rank: int) -> bool:
    """Tell whether the process of a rank, which has said its number, is there no more."""
    return not Path(f"/proc/{(folder / str(rank)).read_text()}/exe").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_the_shares_are_the_whole_in_order(tmp_path: Path, count: int) -> None:
    results, reported = run(tmp_path, count=count)
    assert [world for world, _, _ in results] == [World(rank, rank, count, count) for rank in range(count)]
    assert [item for _, items, _ in results for item in items] == list(range(7))
    assert {threads for _, _, threads in results} == {"3"}
    assert reported == [(done, 7) for done in range(1, 8)]
    processes = {int((tmp_path / f"{rank}").read_text()) for rank in range(count)}
    assert len(processes) == count
    assert (os.getpid() in processes) == (count == 1)


def test_an_error_while_opening_is_that_of_the_task_and_nothing_has_begun(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        run(tmp_path, opening={1: "wrong spec"})
    assert raised.value.problems == ("model: first", "model: second")
    assert raised.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_one_line_and_its_trace_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OneFormerError) as raised:
        run(tmp_path, running={0: "wait", 1: "bug"})
    assert str(raised.value) == "process 1: ValueError: so so (run again with --debug to see where)"
    assert "in bug" in "".join(raised.value.__notes__)
    assert gone(tmp_path, 0)


@pytest.mark.parametrize(("action", "how"), [("kill", "was killed by SIGKILL"), ("exit", "ended with exit code 3")])
def test_a_process_that_ends_without_a_word_is_named(tmp_path: Path, action: str, how: str) -> None:
    with pytest.raises(OneFormerError) as raised:
        run(tmp_path, running={0: "wait", 1: action})
    assert str(raised.value) == f"process 1 of 2 {how}; the run was stopped"
    assert gone(tmp_path, 0)


@pytest.mark.parametrize(("action", "error"), [("interrupt", KeyboardInterrupt), ("terminate", Terminated)])
def test_a_signal_to_one_process_is_one_to_the_task(tmp_path: Path, action: str, error: type[BaseException]) -> None:
    with pytest.raises(error) as raised:
        run(tmp_path, running={0: "wait", 1: action})
    if error is Terminated:
        assert raised.value.code == 143  # type: ignore[attr-defined]
    assert gone(tmp_path, 0)


def test_one_process_speaks_for_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, running={0: "speak", 1: "speak"})
    assert capfd.readouterr().err == "a note\n"


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from test_shares import run; "
        "run(Path(sys.argv[1]), running={0: 'wait', 1: 'wait'})"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    deadline = time.monotonic() + LIMIT
    while len(list(tmp_path.glob("[0-9]"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while not (gone(tmp_path, 0) and gone(tmp_path, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@given(count=st.integers(0, 100), unit=st.integers(1, 9), size=st.integers(1, 12))
def test_shares_are_whole_units_and_nearly_equal(count: int, unit: int, size: int) -> None:
    shares = [World(rank, 0, size, 1).share(count, unit) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    assert all(share.start % unit == 0 for share in shares if share)
    units = [-(-len(share) // unit) for share in shares]
    assert max(units) - min(units) <= 1


def test_cores_are_divided_and_omp_num_threads_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "physical_cores", lambda: 6)
    assert [cores.thread_share(processes, {}) for processes in (1, 2, 4, 8)] == [6, 3, 1, 1]
    assert cores.thread_share(2, {"OMP_NUM_THREADS": "5,2"}) == 5
    assert cores.thread_share(2, {"OMP_NUM_THREADS": "many"}) == 3


def test_hardware_threads_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5})
    monkeypatch.setattr(
        Path, "read_text", lambda path: {"0": "0,4", "1": "1,5", "4": "0,4", "5": "1,5"}[path.parts[5][3:]]
    )
    assert cores.physical_cores() == 2


class TestMachines:
    @pytest.mark.parametrize(
        "environment",
        [
            {"NODE_RANK": "1"},
            {"GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "1"},
            {"SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"},
        ],
    )
    def test_the_starters_tell_which_this_is(self, environment: Mapping[str, str]) -> None:
        assert machine_rank("inference", 2, environment) == 1
        assert machine_rank("inference", 1, environment) == 0

    @pytest.mark.parametrize(
        ("environment", "problem"),
        [
            (
                {},
                "2: set NODE_RANK to 0, 1, … on the machines, or start the command with torchrun or srun, "
                "one process per machine",
            ),
            ({"NODE_RANK": "2"}, "NODE_RANK is 2, expected 0 to 1 with 2 machines"),
            ({"NODE_RANK": "one"}, "NODE_RANK is one, expected 0 to 1 with 2 machines"),
            (
                {"GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
                "LOCAL_WORLD_SIZE is 4; start one process per machine, which starts the processes for "
                "inference.num_gpus itself",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(self, environment: Mapping[str, str], problem: str) -> None:
        with pytest.raises(SpecError) as raised:
            machine_rank("inference", 2, environment)
        assert str(raised.value) == f"inference.num_nodes: {problem}"

    def test_each_takes_its_share(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        items: list[int] = []
        for number in range(2):
            monkeypatch.setenv("NODE_RANK", str(number))
            with open_work(TARGET, spec(1, nodes=2), "inference", tmp_path, {}, {}) as work:
                [(world, share, _)] = work.run(lambda done, total: None)
            assert world == World(number, 0, 2, 1)
            items += share
        assert items == list(range(7))
