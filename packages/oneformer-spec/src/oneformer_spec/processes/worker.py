"""The program of a worker process: it opens its part of a task, works on request, and sends errors to its parent."""

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


def main(connection: Connection) -> int:
    """Run one worker and return its exit code; errors are sent to the parent process, which prints them."""
    try:
        job, world = connection.recv()
    except EOFError:
        return 1
    message: object
    try:
        with sigterm_raises(), _silenced_unless_first(world):
            message = Finished(_work(connection, job, world))
    except KeyboardInterrupt:
        message = Stopped(signal.SIGINT)
    except Terminated:
        message = Stopped(signal.SIGTERM)
    except Exception as error:
        message = describe(error, world.rank)
    with contextlib.suppress(OSError):  # the parent is gone
        connection.send(message)
    return 0 if isinstance(message, Finished) else 1


def _work(connection: Connection, job: Job, world: World) -> object:
    begin = threading.Event()
    threading.Thread(target=_listen, args=(connection, begin), daemon=True).start()
    work = resolve(job.target)(job.spec, world, *job.arguments)
    connection.send(Ready(work.total))
    begin.wait()
    return work.run(lambda done, total: connection.send(Advance(done)))


def _listen(connection: Connection, begin: threading.Event) -> None:
    """Wait for the request to begin, then for the connection to close; then end this process as SIGTERM would."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
        begin.set()
        connection.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


@contextlib.contextmanager
def _silenced_unless_first(world: World) -> Iterator[None]:
    """Silence stdout and stderr inside the block, except on local rank 0, so that each note is printed once."""
    if world.local_rank == 0:
        yield
        return
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        yield


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1]))))
