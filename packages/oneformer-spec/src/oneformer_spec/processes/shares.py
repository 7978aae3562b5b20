"""Processes of this machine that do one task's work together: started, listened to, and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from oneformer_spec.commands.exit import Terminated
from oneformer_spec.errors import OneFormerError
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.processes.remote_error import Failure
from oneformer_spec.processes.threads import THREADS_VARIABLE, thread_share
from oneformer_spec.processes.world import World, machine_rank
from oneformer_spec.schema import EvaluateSection, InferenceSection, Spec

GRACE = 30.0  # seconds that a process has to end by itself
_COMMAND = (sys.executable, "-P", "-m", "oneformer_spec.processes.worker")


@dataclass(frozen=True)
class Job:
    """What every process is told to open: see `oneformer_spec.processes.shares.opened`."""

    target: str
    spec: Spec
    arguments: tuple[object, ...]


@dataclass(frozen=True)
class Ready:
    """A process has opened its share, so many items."""

    total: int


@dataclass(frozen=True)
class Advance:
    """So many items of a process are done."""

    done: int


@dataclass(frozen=True)
class Finished:
    """A process has done its share."""

    result: Any


@dataclass(frozen=True)
class Stopped:
    """A process was told to stop by a signal."""

    number: int


Message = TypeVar("Message", Ready, Finished)


@dataclass(frozen=True, eq=False)
class Worker:
    """One process and the line to it, whose end tells either side that the other one is gone."""

    world: World
    process: subprocess.Popen[bytes]
    line: Connection

    def tell(self, message: object) -> None:
        """Send a message; that the process is gone shows when it is listened to."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.line.send(message)

    def receive(self) -> Ready | Advance | Finished:
        """Return the next message.

        Raises:
            OneFormerError: The process failed: its error; or it ended without a word.
            KeyboardInterrupt, Terminated: A signal stopped it.
        """
        try:
            message = self.line.recv()
        except (EOFError, OSError):  # before or within a message
            raise self._ended() from None
        match message:
            case Failure():
                raise message.error()
            case Stopped(signal.SIGINT):
                raise KeyboardInterrupt
            case Stopped(number):
                raise Terminated(128 + number)
            case Ready() | Advance() | Finished():
                return message
        raise AssertionError(f"process {self.world.rank} said {message!r}")

    def end(self) -> None:
        """Wait until the process has ended, which it does when it finds the line closed."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ended(self) -> OneFormerError:
        self.end()
        code, who = self.process.returncode, f"process {self.world.rank} of {self.world.size}"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with the exit code {code}"
        return OneFormerError(f"{who} {how}; the run stopped with it")


class Workers:
    """The work of several processes; see `oneformer_spec.processes.shares.Work`."""

    def __init__(self, workers: Sequence[Worker], job: Job) -> None:
        """Wait until all have opened their shares."""
        self._workers = workers
        for worker in workers:
            worker.tell((job, worker.world))
        self.total = sum(ready.total for ready in _gather(workers, Ready))

    def run(self, report: Report) -> list[Any]:
        """Let all begin, and return their results by rank."""
        done = dict.fromkeys(self._workers, 0)

        def advance(worker: Worker, count: int) -> None:
            done[worker] = count
            report(sum(done.values()), self.total)

        for worker in self._workers:
            worker.tell("begin")
        return [finished.result for finished in _gather(self._workers, Finished, advance)]


@contextmanager
def started(job: Job, worlds: Sequence[World]) -> Iterator[Workers]:
    """Start a process of this machine for each place; all end with the context, or with this process."""
    workers: list[Worker] = []
    try:
        for world in worlds:
            workers.append(_start(world))
        yield Workers(workers, job)
    finally:
        for worker in workers:
            worker.line.close()
        for worker in workers:
            worker.end()


def _start(world: World) -> Worker:
    """Start one process in a group of its own, which a terminal's Ctrl-C does not reach."""
    line, others = Pipe()
    with others:
        process = subprocess.Popen(
            (*_COMMAND, str(others.fileno())),
            stdin=subprocess.DEVNULL,
            env=os.environ | {THREADS_VARIABLE: str(thread_share(world.local_size))},
            pass_fds=[others.fileno()],
            process_group=0,
        )
    return Worker(world, process, line)


def _gather(
    workers: Sequence[Worker], kind: type[Message], advance: Callable[[Worker, int], None] | None = None
) -> list[Message]:
    """Wait until every process has sent a message of one kind, and return these by rank."""
    found: dict[Worker, Message] = {}
    while len(found) < len(workers):
        lines = {worker.line: worker for worker in workers if worker not in found}
        for line in wait(list(lines)):
            worker = lines[line]  # type: ignore[index]  # only lines were waited for
            message = worker.receive()
            if isinstance(message, kind):
                found[worker] = message
            elif isinstance(message, Advance) and advance is not None:
                advance(worker, message.done)
    return [found[worker] for worker in workers]


Report = Callable[[int, int], None]
"""Is told how many items are done, of how many."""


class Work(Protocol):
    """A share of a task's items: open, so that only they can still go wrong, and not begun."""

    @property
    def total(self) -> int:
        """The number of the items."""

    def run(self, report: Report) -> Any:
        """Do it all; what is returned can be sent between processes."""


@dataclass(frozen=True)
class InThisProcess:
    """All of a task's items as the only share."""

    work: Work

    @property
    def total(self) -> int:
        """The number of the items."""
        return self.work.total

    def run(self, report: Report) -> list[Any]:
        """Do it all and return the one result in a list, as several processes do."""
        return [self.work.run(report)]


@contextmanager
def opened(target: str, spec: Spec, task: str, *arguments: object) -> Iterator[Work]:
    """Open the work of a task on all its devices of this machine; `run` returns the shares' results in items' order.

    Args:
        target: "module:function"; called in every process as `function(spec, world, *arguments)`, it returns the Work
            of that process.
        spec: The whole spec; its section `task` says how many processes and machines there are.
        task: "evaluate" or "inference".
        arguments: Whatever else the processes need to know.

    Raises:
        OneFormerError: One of the processes could not open its share: its error, and no share has begun.
    """
    section: EvaluateSection | InferenceSection = getattr(spec, task)
    count, first = section.num_gpus, machine_rank(task, section.num_nodes) * section.num_gpus
    worlds = [World(first + local, local, count * section.num_nodes, count) for local in range(count)]
    if count == 1:
        yield InThisProcess(resolve(target)(spec, worlds[0], *arguments))
        return
    from oneformer_spec.processes.shares import Job, started

    with started(Job(target, spec, arguments), worlds) as work:
        yield work
