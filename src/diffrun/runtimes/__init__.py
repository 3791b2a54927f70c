# SPDX-License-Identifier: BSD-3-Clause
"""Runtimes: where a program runs. A runtime turns a `Job` into a `Command`; `supervise` runs it.

Which one is used is never guessed from what is installed: the settings say, and what cannot be honoured is
refused by name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from diffrun.errors import UsageError
from diffrun.runtimes.image import Image, default

#: The engine's programs, as module names.
ENGINE = "diffrun.engine"
SURVEY = "diffrun.engine.survey"
VISITS = "diffrun.engine.visits"
REPORT = "diffrun.engine.report"
GATHER = "diffrun.engine.gather"
LIGHTCURVES = "diffrun.engine.lightcurves"
MAKECALEXP = "diffrun.engine.makecalexp"
LOOK = "diffrun.engine.makecalexp.look"


@dataclass(frozen=True)
class Job:
    """One call of a program: what it is, its arguments, and the folders that it touches.

    Attributes
    ----------
    module : `str`
        `ENGINE`, `SURVEY`, or another of the names above.
    arguments : `tuple` [`str`, ...]
    reads : `tuple` [`pathlib.Path`, ...]
        Folders and files that it may only read.
    writes : `pathlib.Path`, optional
        The one folder that it may write to.
    configs : `tuple` [`pathlib.Path`, ...]
        Configuration files, which it may only read.
    parallel : `int`
        Data ids that it works on at the same time.
    waits : `bool`
        Whether it is started beforehand, and begins when a line comes on its standard input.
    """

    module: str
    arguments: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    writes: Path | None = None
    configs: tuple[Path, ...] = ()
    parallel: int = 1
    waits: bool = False


@dataclass(frozen=True)
class Command:
    """An argv list and the whole environment of a child process; prints as the shell line of the same.

    Attributes
    ----------
    argv, environment
    lifeline : `bool`
        Whether the child ends its work at the end of its standard input, which is then a pipe of ours.
    tidy : `bool`
        Whether the child, with a lifeline, is left to end by itself and to remove what it made: killed at the
        wrong moment it could not.
    line : `str`
        The shell line that does the same, where the argv is not meant for people.
    seen : `tuple` [(`str`, `str`), ...]
        Paths in the container, and the folders of the host that are there under another path.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    lifeline: bool = False
    tidy: bool = False
    line: str = ""
    seen: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if self.line:
            return self.line
        named = [f"{name}={value}" for name, value in self.environment]
        return shlex.join(["env", "-i", *named, *self.argv])


class Runtime(Protocol):
    """A place where programs run."""

    name: str

    def command(self, job: Job) -> Command:
        """The command that does the job there (pure: nothing is started)."""


#: Runtime -> its module; each has ``resolve(reference) -> Image`` and the class ``Container(image)``.
CONTAINERS = {name: f"diffrun.runtimes.{name}" for name in ("docker", "podman", "apptainer", "shifter")}


def allow(program: str, runtime: str) -> None:
    """`UsageError` if this release cannot run the program, or not there."""
    if runtime != "native" and runtime not in CONTAINERS:
        known = ", ".join(("native", *CONTAINERS))
        raise UsageError(f"--runtime {runtime} is not available in this release", f"use one of {known}")
    if program != "engine" and not CONTAINERS:
        raise UsageError(f"--program {program} is not available in this release", "use --program engine")
    if program != "engine" and runtime == "native":
        known = " or ".join(CONTAINERS)
        raise UsageError(f"--program {program} runs in an image only", f"give --runtime {known}")


def choose(program: str, runtime: str, image: Image | None = None) -> Runtime:
    """The runtime for a program (pure: nothing is asked or started).

    Raises
    ------
    UsageError
        If this release cannot run the program, or not there.
    """
    allow(program, runtime)
    if runtime in CONTAINERS:
        if image is None:
            raise UsageError(f"--runtime {runtime} needs an image", "give one with --image")
        chosen: Runtime = import_module(CONTAINERS[runtime]).Container(image)
        return chosen
    return local()


def local() -> Runtime:
    """The runtime of the small programs that only read: always this machine's own Python."""
    from diffrun.runtimes.native import Native

    return Native()


def resolve(program: str, runtime: str, reference: str | None) -> Image | None:
    """The image that a run uses, with its sha256: asked for by name, or the one this program has here.

    Raises
    ------
    UsageError
        If there is no such image, or the runtime cannot be reached.
    """
    if runtime not in CONTAINERS:
        if reference is not None:
            raise UsageError(f"--runtime {runtime} takes no --image", "give a container runtime, or no image")
        return None
    resolved: Image = import_module(CONTAINERS[runtime]).resolve(reference or default(program))
    return resolved
