"""A line on stderr that says how far a long loop is, how fast it goes and how long it still takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Rewrites one line on a terminal; elsewhere it writes a line about every half minute, and the last."""

    def __init__(self, title: str, unit: str, *, report: Callable[[str, str], None] | None = None) -> None:
        """Also tell `report` each line that is no rewriting, with the time left: (message, eta)."""
        self._title = title
        self._unit = unit
        self._report = report
        self._start = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    def __call__(self, done: int, total: int) -> None:
        """Say that `done` of `total` are done."""
        per_second = done / max(self.seconds, 1e-9)
        left = str(timedelta(seconds=round((total - done) / max(per_second, 1e-9))))
        line = f"{self._title}: {done}/{total} {self._unit}, {per_second:.2f} {self._unit}/s, {left} left"
        due = done == total or time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif due:
            print(line, file=sys.stderr, flush=True)
        if due:
            self._last = time.monotonic()
            if self._report is not None:
                self._report(line, left)
