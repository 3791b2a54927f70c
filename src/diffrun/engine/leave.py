# SPDX-License-Identifier: BSD-3-Clause
"""The way out of a program, and of the processes that it starts."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def leave(status: int) -> NoReturn:
    """End the process: to take compiled kernels apart object by object takes a third of a second.

    What is written is safe, so nothing need be taken apart. What was registered with `atexit` is done, and
    what was printed goes out; if it cannot, the end is the usual one, with its message and status.
    """
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(status)
    os._exit(status)


def with_parent() -> None:
    """Let this process be killed when the one that started it ends; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
