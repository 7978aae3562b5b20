"""A line on stderr that says how far a long loop is and how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Progress:
    """Rewrites one line on a terminal; elsewhere it writes a line about every half minute."""

    def __init__(self, title: str, unit: str, *, report: Callable[[str, str], None] | None = None) -> None:
        """Also tell `report` each line that is no rewriting, with the time left: (message, eta)."""
        self._title = title
        self._unit = unit
        self._report = report
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Say that `done` of `total` are done."""
        now = time.monotonic()
        each = (now - self._start) / done
        left = _clock(each * (total - done))
        line = f"{self._title}: {done}/{total} {self._unit}, {each:.2f} s each, {left} left"
        due = now - self._last >= 30 or done == total
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif due:
            print(line, file=sys.stderr, flush=True)
        if due:
            self._last = now
            if self._report is not None:
                self._report(line, left)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
