# SPDX-License-Identifier: BSD-3-Clause
"""A program that leaves at once has printed all that it said, and done what it had promised to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = (
    "import atexit; from diffrun.engine.leave import leave; atexit.register(print, 'tidied'); "
    "print('said'); leave(3)"
)


def test_nothing_is_lost() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\ntidied\n", "")


def test_what_cannot_be_printed_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CODE], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0
    assert "No space left" in done.stderr
