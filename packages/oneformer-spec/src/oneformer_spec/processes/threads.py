"""How many CPU threads a process may take, beside others of its kind and beside its own network."""

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
"""What numeric libraries read; a list in it has one entry per level of nesting."""


def thread_share(processes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the threads of one of so many processes: its part of the cores; OMP_NUM_THREADS wins."""
    wanted = environment.get(THREADS_VARIABLE, "").partition(",")[0]
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else max(1, physical_cores() // processes)


class _OneBlasThread(AbstractContextManager[None]):
    """A context in which numpy multiplies matrices with one thread, in all threads of the process.

    The last of several users to leave ends it.

    Helpers of OpenBLAS go on spinning for milliseconds after their last product. While a picture is decoded they win
    little, and the forward pass of the next one then finds their cores busy.
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
        # Finds numpy's library, which is loaded by then. What is not selected would be restored, too.
        return ThreadpoolController().select(user_api="blas")


one_blas_thread = _OneBlasThread()


def physical_cores() -> int:
    """Return the number of cores that this process may use; hardware threads of one core count once."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return len({_siblings(number) for number in os.sched_getaffinity(0)})


def _siblings(number: int) -> str:
    """Return the hardware threads of a core by one of them; alone where the kernel does not tell."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(number)
