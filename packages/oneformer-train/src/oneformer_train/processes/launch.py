"""Start one process per device on this machine, pass signals on, and end as they end: together."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch.distributed as dist

from oneformer_spec.commands.exit import Terminated
from oneformer_spec.errors import OneFormerError
from oneformer_spec.processes.world import World
from oneformer_spec.schema import Spec
from oneformer_train.processes.failures import reported
from oneformer_train.processes.places import meeting_place, node_rank, set_variables

_GRACE = 30.0  # seconds that the others have to end by themselves when one has failed
_POLL = 0.05  # seconds
_COMMAND = (sys.executable, "-P", "-m", "oneformer_train.worker")


def launch(spec: Spec) -> None:
    """Train on `train.num_gpus` processes of this machine, and return when all are done.

    Signals reach the processes through this one alone. They end when it ends, however that happens. It keeps the
    store by which they meet, so no port has to be guessed.

    Raises:
        OneFormerError: One of them failed: its error.
        KeyboardInterrupt, Terminated: A signal came before there was anything to save.
    """
    node, several = node_rank(spec.train), spec.train.num_nodes > 1
    address, port = meeting_place() if several else ("127.0.0.1", 0)
    store = dist.TCPStore(address, port, is_master=node == 0, wait_for_workers=False)
    count = spec.train.num_gpus
    worlds = [World(node * count + local, local, count * spec.train.num_nodes, count) for local in range(count)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with _passing_signals_on(processes) as signals:
            for world in worlds:
                processes.append(_start(spec, world, address, store.port))
            codes = _wait(processes)
    finally:
        _end(processes)
    _report(store, worlds, codes, signals)


def _start(spec: Spec, world: World, address: str, port: int) -> subprocess.Popen[bytes]:
    """Start one process in a group of its own, which a terminal's Ctrl-C does not reach."""
    variables = set_variables(world, address, port)
    # torchrun's word for a store that is there already, so that no process opens one.
    environment = os.environ | variables | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, env=environment, process_group=0)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(spec))
    process.stdin.flush()  # and stays open: its end tells the process that this one is gone
    return process


@contextmanager
def _passing_signals_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Send SIGINT and SIGTERM on to all processes; yields the list of those that came."""
    came: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for process in processes:
            process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait for all processes, but not for long once one has failed; returns their exit codes, None where one hangs."""
    last = None
    while None in (codes := [process.poll() for process in processes]):
        if last is None and any(codes):
            last = time.monotonic() + _GRACE
        if last is not None and time.monotonic() > last:
            break
        time.sleep(_POLL)
    return codes


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()  # nothing happens to one that has ended
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _report(store: dist.Store, worlds: Sequence[World], codes: Sequence[int | None], signals: Sequence[int]) -> None:
    """Raise what the processes ended with, if not with success."""
    if not any(codes):
        return
    killed = [(world.rank, -code) for world, code in zip(worlds, codes, strict=True) if code and code < 0]
    if killed and not signals:
        rank, number = killed[0]
        name = signal.Signals(number).name
        raise OneFormerError(f"process {rank} of {worlds[0].size} was ended by {name}; the run stopped with it")
    failure = reported(store)
    if failure is not None:
        raise failure.error()
    if signals:
        raise KeyboardInterrupt if signals[0] == signal.SIGINT else Terminated(128 + signals[0])
    raise OneFormerError(f"the processes of the run ended with the exit codes {', '.join(map(str, codes))}")
