"""Run one task on several processes of this machine: start them, collect progress and results, end them together."""

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

GRACE = 30.0  # seconds a process is given to exit by itself
_COMMAND = (sys.executable, "-P", "-m", "oneformer_spec.processes.worker")


@dataclass(frozen=True)
class Job:
    """What every process opens; the arguments of `open_work`."""

    target: str
    spec: Spec
    arguments: tuple[object, ...]


@dataclass(frozen=True)
class Ready:
    """Sent by a process once its part of the work is open."""

    total: int
    """Number of items in its part."""


@dataclass(frozen=True)
class Advance:
    """Sent by a process as it makes progress."""

    done: int
    """Number of items it has finished."""


@dataclass(frozen=True)
class Finished:
    """Sent by a process with the result of its part."""

    result: Any


@dataclass(frozen=True)
class Stopped:
    """Sent by a process that a signal stopped."""

    number: int


Message = TypeVar("Message", Ready, Finished)


@dataclass(frozen=True, eq=False)
class Worker:
    """A started process and the connection to it; each side notices the other's exit by the closed connection."""

    world: World
    process: subprocess.Popen[bytes]
    connection: Connection

    def send(self, message: object) -> None:
        """Send a message; if the process is gone, the next `receive` reports it."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def receive(self) -> Ready | Advance | Finished:
        """Return the next message.

        Raises:
            OneFormerError: The error with which the process failed, or that it ended without one.
            KeyboardInterrupt, Terminated: A signal stopped the process.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError):  # before or within a message
            raise self._unexpected_end() from None
        match message:
            case Failure():
                raise message.error()
            case Stopped(signal.SIGINT):
                raise KeyboardInterrupt
            case Stopped(number):
                raise Terminated(128 + number)
            case Ready() | Advance() | Finished():
                return message
        raise AssertionError(f"process {self.world.rank} sent {message!r}")

    def end(self) -> None:
        """Wait for the process to exit, which it does once the connection is closed; kill it after `GRACE` seconds."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _unexpected_end(self) -> OneFormerError:
        self.end()
        code, process = self.process.returncode, f"process {self.world.rank} of {self.world.size}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return OneFormerError(f"{process} {how}; the run was stopped")


class ParallelWork:
    """A task's work, divided among several processes."""

    def __init__(self, workers: Sequence[Worker], job: Job) -> None:
        """Wait until every process has opened its part."""
        self._workers = workers
        for worker in workers:
            worker.send((job, worker.world))
        self.total = sum(ready.total for ready in _gather(workers, Ready))

    def run(self, report: ReportProgress) -> list[Any]:
        """Start the work in all processes and return their results, ordered by rank."""
        done = dict.fromkeys(self._workers, 0)

        def advance(worker: Worker, count: int) -> None:
            done[worker] = count
            report(sum(done.values()), self.total)

        for worker in self._workers:
            worker.send("begin")
        return [finished.result for finished in _gather(self._workers, Finished, advance)]


@contextmanager
def start_workers(job: Job, worlds: Sequence[World]) -> Iterator[ParallelWork]:
    """Start one process per entry of `worlds`; they end when the block ends, or when this process does."""
    workers: list[Worker] = []
    try:
        for world in worlds:
            workers.append(_start(world))
        yield ParallelWork(workers, job)
    finally:
        for worker in workers:
            worker.connection.close()
        for worker in workers:
            worker.end()


def _start(world: World) -> Worker:
    """Start a process in its own process group, so that Ctrl-C in a terminal reaches only this process."""
    connection, other_end = Pipe()
    with other_end:
        process = subprocess.Popen(
            (*_COMMAND, str(other_end.fileno())),
            stdin=subprocess.DEVNULL,
            env=os.environ | {THREADS_VARIABLE: str(thread_share(world.local_size))},
            pass_fds=[other_end.fileno()],
            process_group=0,
        )
    return Worker(world, process, connection)


def _gather(
    workers: Sequence[Worker], kind: type[Message], advance: Callable[[Worker, int], None] | None = None
) -> list[Message]:
    """Wait until every process has sent a message of one kind, and return these messages by rank."""
    received: dict[Worker, Message] = {}
    while len(received) < len(workers):
        waiting = {worker.connection: worker for worker in workers if worker not in received}
        for connection in wait(list(waiting)):
            worker = waiting[connection]  # type: ignore[index]  # only these connections were waited for
            message = worker.receive()
            if isinstance(message, kind):
                received[worker] = message
            elif isinstance(message, Advance) and advance is not None:
                advance(worker, message.done)
    return [received[worker] for worker in workers]


ReportProgress = Callable[[int, int], None]
"""Called with the number of items done so far and the number of all items."""


class Work(Protocol):
    """One process's part of a task. Inputs are opened and checked; no item has been processed yet."""

    @property
    def total(self) -> int:
        """The number of items."""

    def run(self, report: ReportProgress) -> Any:
        """Process all items and return a result that can be pickled."""


@dataclass(frozen=True)
class WorkInThisProcess:
    """A task's work, not divided."""

    work: Work

    @property
    def total(self) -> int:
        """The number of items."""
        return self.work.total

    def run(self, report: ReportProgress) -> list[Any]:
        """Process all items and return a list with the one result."""
        return [self.work.run(report)]


@contextmanager
def open_work(target: str, spec: Spec, task: str, *arguments: object) -> Iterator[Work]:
    """Open a task's work in as many processes as the spec asks for on this machine.

    `run` of the work returns the list of the processes' results, in the order of the items.

    Args:
        target: "module:function". It is called in every process as `function(spec, world, *arguments)` and returns the
            `Work` of that process.
        spec: The whole spec; its section `task` gives the number of processes and machines.
        task: "evaluate" or "inference".
        arguments: Further arguments for the function; they must be picklable.

    Raises:
        OneFormerError: A process could not open its part; no process has started to work.
    """
    section: EvaluateSection | InferenceSection = getattr(spec, task)
    count, first = section.num_gpus, machine_rank(task, section.num_nodes) * section.num_gpus
    worlds = [World(first + local, local, count * section.num_nodes, count) for local in range(count)]
    if count == 1:
        yield WorkInThisProcess(resolve(target)(spec, worlds[0], *arguments))
        return
    with start_workers(Job(target, spec, arguments), worlds) as work:
        yield work
