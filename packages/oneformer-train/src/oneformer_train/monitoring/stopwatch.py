"""How fast training goes, how much of its time it waits for data, and how much memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import torch

from oneformer_train.batches.loaders import TimedLoader


class Stopwatch:
    """The time of training steps since the last reset, waiting included; validation and checkpoints do not count.

    The first batch of a process is left out: workers start, memory is reserved, kernels are chosen.
    """

    def __init__(self, loader: TimedLoader) -> None:
        """Watch the steps on the batches of `loader`."""
        self._loader = loader
        self._began: float | None = None
        self._is_warm = False
        self.reset()

    def reset(self) -> None:
        """Count from here."""
        self.batches = self.images = 0
        self._busy = self._waited = 0.0
        self._waited_before = self._loader.seconds_waited

    def begin(self) -> None:
        """Tell that a batch has come."""
        self._began = time.perf_counter()

    def end(self, images: int) -> None:
        """Tell that the step on a batch of so many images is done."""
        assert self._began is not None
        waited, self._waited_before = self._loader.seconds_waited - self._waited_before, self._loader.seconds_waited
        if self._is_warm:
            self.batches += 1
            self.images += images
            self._waited += waited
            self._busy += time.perf_counter() - self._began
        self._is_warm = True

    @property
    def seconds(self) -> float:
        """Seconds of the steps that count."""
        return self._busy + self._waited

    @property
    def images_per_second(self) -> float:
        """Images by seconds; 0 before the first step that counts."""
        return self.images / self.seconds if self.batches else 0.0

    @property
    def wait_share(self) -> float:
        """The part of the time, 0..1, that went into waiting for the loader."""
        return self._waited / self.seconds if self.batches else 0.0


def peak_memory(device: torch.device) -> float:
    """Return the most memory that this process has had, in GB (10^9 bytes).

    On a GPU it is what torch used there, else main memory; loader processes are not counted.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # Linux; there, what getrusage tells begins with the parent's
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
