# SPDX-License-Identifier: BSD-3-Clause
"""Threads over the parts of an image, for functions that let go of the interpreter's lock; who goes first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: One a processor that we may run on. No result depends on their number.
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_NICE = 10
_ALGEBRA = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def hold_algebra() -> None:
    """Hold linear algebra to one thread, before NumPy is imported, here and in processes that follow.

    With more, the last bits of a result depend on their number.
    """
    os.environ.update(dict.fromkeys(_ALGEBRA, "1"))


def share(among: int) -> None:
    """Leave its part of the processors to each of so many processes."""
    global WORKERS
    WORKERS = max(1, WORKERS // among)


def each(do: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Do something with each part, several at a time; the parts must not touch one another.

    Raises
    ------
    Exception
        What ``do`` raised for the first part that failed.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(do, parts))


def bands(n: int, size: int) -> list[tuple[int, int]]:
    """``n`` things in bands of at most ``size``: (first, end) of each."""
    return [(first, min(first + size, n)) for first in range(0, n, size)]


def give_way() -> None:
    """Let the threads of other programs go first before this one, and before those that it starts."""
    if sys.platform == "linux":  # where each thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
