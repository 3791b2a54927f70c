# SPDX-License-Identifier: BSD-3-Clause
"""Run a program as a process of its own, and what it used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conditions import SCIENCE, TEMPLATE

CONFIGFILE = Path(__file__).resolve().parents[1] / "configs" / "diffimconfig.py"
METER = Path(__file__).with_name("programs") / "meter.py"

LIMIT = 300  # CPU seconds for one program
PATIENCE = 4  # wall seconds for one of CPU


class Failed(RuntimeError):
    """A command that did not end well, in one line."""


@dataclass(frozen=True)
class Used:
    """CPU (user and system) and wall seconds, and peak resident memory in bytes, of a whole process."""

    cpu: float
    wall: float
    memory: int

    def __add__(self, other: Used) -> Used:
        """Of one after the other."""
        return Used(self.cpu + other.cpu, self.wall + other.wall, max(self.memory, other.memory))


def run(
    command: Sequence[str | Path], log: Path, limit: int = LIMIT, environment: Mapping[str, str] | None = None
) -> Used:
    """Run a command, its output into ``log``, for ``limit`` CPU seconds; `Failed` says what went wrong."""
    words = [str(word) for word in command]
    used = log.with_suffix(".used")
    used.unlink(missing_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", METER, used, str(limit), *words], stdout=stream,
            stderr=subprocess.STDOUT, cwd=log.parent, env={**os.environ, **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(PATIENCE * limit)
        except BaseException as stopped:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(stopped, subprocess.TimeoutExpired):
                raise Failed(f"not done after {PATIENCE * limit} s") from None
            raise
    found = json.loads(used.read_text(encoding="ascii"))
    status = found.pop("status")
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise Failed(f"not done after {found['cpu']:.0f} s of CPU time")
    if status:
        raise Failed(f"{Path(words[0]).name} ended with {status}: {last_words(log)}")
    return Used(**found)


def last_words(log: Path) -> str:
    """The last line that says something, or the last error among them."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line and "error: " not in line]
    return (errors or lines or ["no word"])[-1][:200]


def words(
    repository: Path, output: Path, visits: str = str(SCIENCE), template: int = TEMPLATE
) -> list[str | Path]:
    """The words after the name of the program for the difference of ``visits`` and a template."""
    pair = ("--id", f"visit={visits}", "--templateId", f"visit={template}")
    return [repository, *pair, "--output", output, "--configfile", CONFIGFILE]


def subtract(
    repository: Path,
    output: Path,
    *more: str,
    visits: str = str(SCIENCE),
    template: int = TEMPLATE,
    **variables: str,
) -> Used:
    """The difference of visits and a template, with more options and variables of the environment."""
    program = [sys.executable, "-m", "diffrun.engine", *words(repository, output, visits, template), *more]
    return run(program, output.with_suffix(".log"), environment=variables)


def imports(log: Path) -> Used:
    """What the engine's modules alone use."""
    return run([sys.executable, "-c", "import diffrun.engine.program, diffrun.engine.task"], log)
