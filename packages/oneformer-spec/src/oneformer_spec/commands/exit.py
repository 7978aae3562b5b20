"""Run a command so that an error ends it with one line on stderr and a fixed exit code, without a traceback."""

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

from oneformer_spec.errors import OneFormerError, PluginError, SpecError


class Terminated(SystemExit):
    """Raised on SIGTERM, so that the stack unwinds as after SIGINT: files are closed and status.json is completed."""


def run_reporting(action: Callable[[], object], *, debug: bool = False) -> int:
    """Run `action` and return the exit code: 0, 1, 2, or 130 / 143 after SIGINT / SIGTERM.

    With `debug`, the traceback of an error is printed after its message.
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
    if isinstance(error, PluginError) and error.__cause__ is not None:
        return f"{text}{hint}"
    return text if isinstance(error, OneFormerError) else f"{type(error).__name__}: {text or 'no message'}{hint}"


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM inside the block, unless SIGTERM has a handler or this is not the main thread."""
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
    """Whether stdout is a pipe whose reader has exited (`… | head`); if so, discard what is still buffered."""
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
    """Print an error to stderr, unchanged: its lines already begin with the file or key that they are about."""
    print(message, file=sys.stderr)


def note(message: str) -> None:
    """Print a note to stderr: worth knowing, but not an error."""
    print(f"note: {message}", file=sys.stderr)
