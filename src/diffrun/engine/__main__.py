# SPDX-License-Identifier: BSD-3-Clause
"""The program ``imageDifference.py``, also as ``python -m diffrun.engine``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from diffrun.engine import kernelcache
from diffrun.engine.leave import leave
from diffrun.threads import hold_algebra


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; see `diffrun.engine.program.main` for its exit status."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # clean up on the way out
    hold_algebra()
    kernelcache.keep()
    from diffrun.engine import program

    return program.main(sys.argv[1:] if argv is None else argv)


def run() -> NoReturn:
    """The program, to its end."""
    leave(main())


if __name__ == "__main__":
    run()
