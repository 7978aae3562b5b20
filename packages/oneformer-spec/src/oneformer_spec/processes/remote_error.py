"""What one process tells another about an error, so that it can be raised there as if it had happened there."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from oneformer_spec.errors import OneFormerError, SpecError


@dataclass(frozen=True)
class Failure:
    """Why a process ended: what people read, the exit code, and the traceback for --debug."""

    rank: int
    text: str
    exit_code: int
    in_spec: bool
    trace: str

    def error(self) -> OneFormerError:
        """Return the failure as an error of the process that started the others."""
        error: OneFormerError = SpecError(self.text.splitlines()) if self.in_spec else OneFormerError(self.text)
        error.exit_code = self.exit_code
        error.add_note(self.trace)
        return error


def describe(error: Exception, rank: int) -> Failure:
    """Return an error of the process `rank` as its failure."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, OneFormerError):
        return Failure(rank, str(error), error.exit_code, isinstance(error, SpecError), trace)
    text = f"process {rank}: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    return Failure(rank, f"{text} (run again with --debug to see where)", 1, False, trace)
