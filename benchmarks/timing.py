"""Sides of a comparison, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Run = Callable[[], object]
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def compare(sides: Mapping[str, Run], repeats: int, what: str, *, peer: str, clock: str = "wall") -> dict[str, float]:
    """Alternate all sides; print medians, spreads and the peer's time over each; returns the medians.

    The clock "cpu" counts the processor time of all threads: on one thread it is what an idle machine's wall clock
    shows, also where other programs run beside.
    """
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run()
    for _ in range(repeats):
        for name, run in sides.items():
            start = now()
            run()
            times[name].append(now() - start)
    print(f"{what}, median of {repeats} (smallest to largest), {clock} clock")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        ratio = "" if name == peer else f"   {medians[peer] / medians[name]:.2f} times as fast as {peer}"
        print(f"  {name:<18}{medians[name]:7.3f} s  ({min(values):.3f} to {max(values):.3f}){ratio}", flush=True)
    return medians


def resident() -> float:
    """Return the largest resident memory of this program so far, in MB; `ru_maxrss` would begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024
