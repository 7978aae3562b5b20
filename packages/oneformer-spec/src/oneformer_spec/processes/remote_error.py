"""Send an error from one process to another, where it is raised again."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from oneformer_spec.errors import OneFormerError, SpecError


@dataclass(frozen=True)
class Failure:
    """An error that ended a process, in a form that can be sent to another one."""

    rank: int
    text: str
    """The error message."""
    exit_code: int
    in_spec: bool
    """Whether it is a SpecError, whose text has one line per mistake."""
    trace: str
    """The traceback, shown with --debug."""

    def error(self) -> OneFormerError:
        """Return an exception with the same message, exit code and (as a note) traceback."""
        error: OneFormerError = SpecError(self.text.splitlines()) if self.in_spec else OneFormerError(self.text)
        error.exit_code = self.exit_code
        error.add_note(self.trace)
        return error


def describe(error: Exception, rank: int) -> Failure:
    """Describe an error of the process `rank`."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, OneFormerError):
        return Failure(rank, str(error), error.exit_code, isinstance(error, SpecError), trace)
    text = f"process {rank}: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    return Failure(rank, f"{text} (run again with --debug to see where)", 1, False, trace)
