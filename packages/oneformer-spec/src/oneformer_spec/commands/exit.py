"""How every command ends: an error is one line on stderr and a fixed exit code, never a traceback."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from oneformer_spec.errors import OneFormerError, SpecError


class Terminated(SystemExit):
    """SIGTERM came: unwinds as SIGINT does, so that files are closed and a run's folder says how it ended."""


def run_reporting(action: Callable[[], object], *, debug: bool = False) -> int:
    """Run `action` and return the exit code: 0, 1, 2, or 130 / 143 after SIGINT / SIGTERM.

    With `debug` the traceback of any error follows its line.
    """
    try:
        with sigterm_raises():
            action()
            sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        report("interrupted")
        return 128 + signal.SIGINT
    except Terminated:
        report("terminated")
        return 128 + signal.SIGTERM
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return 128 + signal.SIGPIPE
        report(_message(error, hint="" if debug else " (run again with --debug to see where)"))
        if debug:
            traceback.print_exception(error)
        return error.exit_code if isinstance(error, OneFormerError) else 1


def _message(error: Exception, hint: str) -> str:
    if isinstance(error, SpecError):
        return "\n".join(error.problems)
    text = " ".join(str(error).splitlines())
    return text if isinstance(error, OneFormerError) else f"{type(error).__name__}: {text or 'no message'}{hint}"


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, unless someone handles it already or this is not the main thread."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _reader_is_gone() -> bool:
    """Tell whether stdout is a pipe that nobody reads (`… | head`); if so, what is left in it goes nowhere."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True


def report(message: str) -> None:
    """Print an error to stderr, as it is: its lines already begin with their place."""
    print(message, file=sys.stderr)


def note(message: str) -> None:
    """Print a note to stderr: something worth knowing that stops nothing."""
    print(f"note: {message}", file=sys.stderr)
