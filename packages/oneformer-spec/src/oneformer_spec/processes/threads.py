"""Divide CPU threads among processes, and between a network and the numpy code around it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from threading import Lock

from threadpoolctl import ThreadpoolController

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Read by numeric libraries; it may hold a comma-separated list with one number per level of nesting."""


def thread_share(processes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of threads for one of `processes` equal processes: OMP_NUM_THREADS, or its part of the cores.

    >>> thread_share(4, {"OMP_NUM_THREADS": "3"})
    3
    """
    wanted = environment.get(THREADS_VARIABLE, "").partition(",")[0]
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else max(1, physical_cores() // processes)


class _OneBlasThread(AbstractContextManager[None]):
    """A context manager that limits numpy's matrix products to one thread, for the whole process.

    It may be entered by several threads at once; the limit is lifted when the last one leaves.

    OpenBLAS threads keep spinning for milliseconds after a product. They gain little while an image is decoded, and
    then occupy cores that the next forward pass needs.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._limit = self._blas.limit(limits=1)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._limit.restore_original_limits()

    @cached_property
    def _blas(self) -> ThreadpoolController:
        # By now numpy's BLAS is loaded and found. Without `select`, other libraries would be restored as well.
        return ThreadpoolController().select(user_api="blas")


one_blas_thread = _OneBlasThread()


def physical_cores() -> int:
    """Return the number of physical cores that this process may use."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return len({_siblings(number) for number in os.sched_getaffinity(0)})


def _siblings(number: int) -> str:
    """Return the list of hardware threads on the same core; only `number` itself if the kernel does not say."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(number)
