# SPDX-License-Identifier: BSD-3-Clause
"""The way out of a program: what is written is safe, so nothing need be taken apart."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End the process: to take compiled kernels apart object by object takes a third of a second.

    What was registered with `atexit` is done, and what was printed goes out; if it cannot, the end is the
    usual one, with its message and status.
    """
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(status)
    os._exit(status)
