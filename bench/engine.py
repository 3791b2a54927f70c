# SPDX-License-Identifier: BSD-3-Clause
"""Run the engine as a process of its own, and what it used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conditions import SCIENCE, TEMPLATE

CONFIGFILE = Path(__file__).resolve().parents[1] / "configs" / "diffimconfig.py"
PAIR = ("--id", f"visit={SCIENCE}", "--templateId", f"visit={TEMPLATE}")


@dataclass(frozen=True)
class Used:
    """CPU (user and system) and wall seconds, and peak resident memory in bytes, of a whole process."""

    cpu: float
    wall: float
    memory: int


def run(words: Sequence[str | Path], log: Path) -> Used:
    """Run a command, its output into ``log``; `SystemExit` with the log's end if it fails."""
    began = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[0]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Used(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * unit)


def subtract(repository: Path, output: Path) -> Used:
    """The difference of a simulated pair."""
    words = [sys.executable, "-m", "diffrun.engine", repository, *PAIR, "--output", output]
    return run([*words, "--configfile", CONFIGFILE], output.with_suffix(".log"))


def imports(log: Path) -> Used:
    """What the engine's modules alone use."""
    return run([sys.executable, "-c", "import diffrun.engine.program, diffrun.engine.task"], log)
