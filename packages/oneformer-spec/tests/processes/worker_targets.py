"""Work for the tests of processes: what each process does at which moment is an argument."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from oneformer_spec.errors import SpecError
from oneformer_spec.files.atomic import write_atomically
from oneformer_spec.processes.shares import ReportProgress
from oneformer_spec.processes.world import World
from oneformer_spec.schema import Spec

ITEMS = 7


def wrong_spec() -> None:
    raise SpecError(["model: first", "model: second"])


def bug() -> None:
    raise ValueError("so\nso")


def wait() -> None:
    time.sleep(600)


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


ACTIONS: dict[str, Callable[[], object]] = {
    "wrong spec": wrong_spec,
    "bug": bug,
    "wait": wait,
    "exit": lambda: os._exit(3),
    "kill": send(signal.SIGKILL),
    "interrupt": send(signal.SIGINT),
    "terminate": send(signal.SIGTERM),
    "speak": lambda: print("a note", file=sys.stderr),
}


class Acting:
    """Lists its items, and leaves a file that says which process it ran in."""

    def __init__(self, world: World, folder: Path, action: str | None) -> None:
        self.world, self.folder, self.action = world, folder, action
        self.total = len(world.share(ITEMS))

    def run(self, report: ReportProgress) -> tuple[World, list[int], str]:
        write_atomically(self.folder / f"{self.world.rank}", str(os.getpid()))
        if self.action:
            while len(list(self.folder.glob("[0-9]"))) < self.world.size:
                time.sleep(0.01)  # until the others have begun, too
            ACTIONS[self.action]()
        for done in range(1, self.total + 1):
            report(done, self.total)
        return self.world, list(self.world.share(ITEMS)), os.environ["OMP_NUM_THREADS"]


def open_acting(
    spec: Spec, world: World, folder: Path, opening: Mapping[int, str], running: Mapping[int, str]
) -> Acting:
    """Open the work of a rank; what is said to happen in it while opening happens here."""
    if world.rank in opening:
        ACTIONS[opening[world.rank]]()
    return Acting(world, folder, running.get(world.rank))
