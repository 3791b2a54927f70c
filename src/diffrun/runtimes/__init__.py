# SPDX-License-Identifier: BSD-3-Clause
"""Runtimes: where a program runs. A runtime turns a `Job` into a `Command`; `supervise` runs it.

Which one is used is never guessed from what is installed: the settings say, and what cannot be honoured is
refused by name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from diffrun.errors import UsageError

#: The engine's programs, as module names.
ENGINE = "diffrun.engine"
SURVEY = "diffrun.engine.survey"
REPORT = "diffrun.engine.report"


@dataclass(frozen=True)
class Job:
    """One call of a program: what it is, its arguments, and the folders that it touches.

    Attributes
    ----------
    module : `str`
        `ENGINE`, `SURVEY` or `REPORT`.
    arguments : `tuple` [`str`, ...]
    reads : `tuple` [`pathlib.Path`, ...]
        Folders and files that it may only read.
    writes : `pathlib.Path`, optional
        The one folder that it may write to.
    """

    module: str
    arguments: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    writes: Path | None = None


@dataclass(frozen=True)
class Command:
    """An argv list and the whole environment of a child process; prints as the shell line of the same."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in self.environment]
        return shlex.join(["env", "-i", *named, *self.argv])


class Runtime(Protocol):
    """A place where programs run."""

    name: str

    def command(self, job: Job) -> Command:
        """The command that does the job there (pure: nothing is started)."""


def choose(program: str, runtime: str) -> Runtime:
    """The runtime for a program.

    Raises
    ------
    UsageError
        If this release cannot run the program, or not there.
    """
    remedy = "use --program engine --runtime native"
    if program != "engine":
        raise UsageError(f"--program {program} is not available in this release", remedy)
    if runtime != "native":
        raise UsageError(f"--runtime {runtime} is not available in this release", remedy)
    from diffrun.runtimes.native import Native

    return Native()
