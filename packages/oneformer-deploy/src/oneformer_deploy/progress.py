"""A line on stderr that says how many images are done and how fast it goes."""

from __future__ import annotations

import sys
import time

INTERVAL = 30.0  # seconds between lines where stderr is no terminal


class Progress:
    """Rewrites one line on a terminal; elsewhere it writes a line now and then, and the last."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._start = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    @property
    def line(self) -> str:
        """What is shown."""
        return f"inference: {self.done}/{self.total} images, {self.done / max(self.seconds, 1e-9):.2f} images/s"

    def add(self, count: int) -> None:
        """Say that ``count`` more images are done."""
        self.done += count
        finished = self.done == self.total
        if sys.stderr.isatty():
            print(f"\r\033[K{self.line}", end="\n" if finished else "", file=sys.stderr, flush=True)
        elif finished or time.monotonic() - self._last >= INTERVAL:
            self._last = time.monotonic()
            print(self.line, file=sys.stderr, flush=True)
