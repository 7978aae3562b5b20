"""One of the processes that `workers` starts: opens its share, does it when told to, and is silent about errors."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from oneformer_spec.commands.exit import Terminated, sigterm_raises
from oneformer_spec.plugins.registry import resolve
from oneformer_spec.processes.remote_error import describe
from oneformer_spec.processes.shares import GRACE, Advance, Finished, Job, Ready, Stopped
from oneformer_spec.processes.world import World


def main(line: Connection) -> int:
    """Return the exit code; the process that started this one prints the error."""
    try:
        job, world = line.recv()
    except EOFError:
        return 1
    message: object
    try:
        with sigterm_raises(), _heard(world):
            message = Finished(_work(line, job, world))
    except KeyboardInterrupt:
        message = Stopped(signal.SIGINT)
    except Terminated:
        message = Stopped(signal.SIGTERM)
    except Exception as error:
        message = describe(error, world.rank)
    with contextlib.suppress(OSError):  # nobody listens any more
        line.send(message)
    return 0 if isinstance(message, Finished) else 1


def _work(line: Connection, job: Job, world: World) -> object:
    begin = threading.Event()
    threading.Thread(target=_listen, args=(line, begin), daemon=True).start()
    work = resolve(job.target)(job.spec, world, *job.arguments)
    line.send(Ready(work.total))
    begin.wait()
    return work.run(lambda done, total: line.send(Advance(done)))


def _listen(line: Connection, begin: threading.Event) -> None:
    """Pass on the word to begin, then wait for the end of the line, and leave as after SIGTERM; at once if need be."""
    with contextlib.suppress(EOFError, OSError):
        line.recv()
        begin.set()
        line.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


@contextlib.contextmanager
def _heard(world: World) -> Iterator[None]:
    """Let one process of a machine say what all of them find worth a note."""
    if world.local_rank == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1]))))
