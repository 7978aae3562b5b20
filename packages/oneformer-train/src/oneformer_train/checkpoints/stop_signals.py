"""Signals that ask a run to stop: noted at once, obeyed when the state can be saved."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from oneformer_spec.errors import OneFormerError


class StoppedError(OneFormerError):
    """A signal stopped the run after its state was saved."""

    def __init__(self, number: int, latest: Path) -> None:
        """Exit with 128 + the signal's number, as shells do."""
        super().__init__(f"stopped by {signal.Signals(number).name}; {latest} is saved, the same command continues")
        self.exit_code = 128 + number


class StopSignals:
    """The first SIGINT or SIGTERM is noted; a second one ends the process at once."""

    def __init__(self) -> None:
        """Note nothing before `listen`."""
        self.received: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take the signals."""
        self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def give_back(self) -> None:
        """Give the signals back to whoever had them before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
