"""Show the progress of a long loop on stderr: items done, speed, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Updates one line on a terminal; elsewhere prints a line every 30 seconds and a last one at the end."""

    def __init__(self, title: str, unit: str, *, report: Callable[[str, str], None] | None = None) -> None:
        """Start the clock; `report`, if given, is called about every 30 seconds with the line and the time left."""
        self._title = title
        self._unit = unit
        self._report = report
        self._start = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` items are done."""
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
