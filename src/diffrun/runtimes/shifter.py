# SPDX-License-Identifier: BSD-3-Clause
"""The Shifter runtime of NERSC: an argv that every Shifter from 2016 on understands alike.

Shifter brings the file systems of the site into every container at their own paths; a volume only gives one
of their folders a second place. It drops each character of a path that it does not like without a word, so
such paths are refused here by name. Its own failures and many of a program's exit with 1: whether the program
was reached is told by the first line of the image's entry command.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from diffrun.errors import ConfigError, UsageError
from diffrun.runtimes import ENGINE, Command, Job
from diffrun.runtimes.container import PROGRAMS
from diffrun.runtimes.image import ENTRY, Image, containers
from diffrun.runtimes.mounts import OUTPUT, of
from diffrun.runtimes.native import FIXED
from diffrun.sites import SiteLoader

_DROPPED = re.compile(r"[^A-Za-z0-9_.+/-]", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KINDS = ("docker:", "custom:", "id:")
_TOP = re.compile(r"/[a-z][a-z0-9_-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_GATEWAY_SECONDS = 120


@dataclass(frozen=True)
class Layout:
    """What ``containers/shifter.yaml`` says: kind of image, places of the volumes, variables."""

    kind: str
    input: str
    output: str
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Layout:
        """The layout of a file; `ConfigError` if it is not one."""
        try:
            table: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), SiteLoader)
            pairs = tuple((str(name), str(value)) for name, value in table["environment"].items())
            found = cls(str(table["type"]), str(table["input"]), str(table["output"]), pairs)
        except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"cannot read {path}: {error!r}", "install diffrun anew") from None
        places_are_good = _TOP.fullmatch(found.input) and found.output == str(OUTPUT)
        if not places_are_good or not all(_VARIABLE.fullmatch(name) and value for name, value in pairs):
            raise ConfigError(f"{path} is not a good layout", "install diffrun anew")
        return found


class Container:
    """Runs the program of an image under Shifter, by the image's id."""

    name = "shifter"

    def __init__(self, image: Image, layout: Layout | None = None) -> None:
        self.image = image
        self.layout = layout or Layout.read(containers() / "shifter.yaml")

    def command(self, job: Job, host: Mapping[str, str] | None = None) -> Command:
        """The command for a job; its environment is `native.FIXED` and nothing of the host's."""
        host = os.environ if host is None else host
        program = shutil.which("shifter", path=host.get("PATH")) or "shifter"
        repository = mapped(job)
        argv = (program, *words(job, self.image, self.layout))
        seen = ((self.layout.input, str(repository)),) if repository else ()
        return Command(argv, tuple(FIXED.items()), lifeline=True, seen=seen)


def words(job: Job, image: Image, layout: Layout) -> tuple[str, ...]:
    """The arguments of ``shifter`` (pure, but for the links of the disk).

    The repository is seen read-only at ``/input``, unless its links lead out of it: then it is read at its
    own path, where all that they lead to is as well. Configuration files are read at their own paths.

    Raises
    ------
    UsageError
        For a path that Shifter would change, or that must not be mounted.
    """
    arguments = of(replace(job, configs=())).arguments
    repository = mapped(job)
    volumes = []
    if repository:
        volumes.append(f"--volume={plain(repository)}:{layout.input}:ro")
        arguments = tuple(layout.input if word == str(repository) else word for word in arguments)
    if job.writes:
        volumes.append(f"--volume={plain(job.writes)}:{layout.output}")
    variables = [f"{name}={value}" for name, value in layout.environment]
    identity = image.id.removeprefix("sha256:")
    return (
        f"--image=id:{identity}", *volumes, "--",
        "/usr/bin/env", *variables, ENTRY, PROGRAMS[job.module], *arguments,
    )  # fmt: skip


def mapped(job: Job) -> Path | None:
    """The repository, if it is all that is read: what its links lead to is found at no other path."""
    alone = job.module == ENGINE and len(job.reads) == 1 and str(job.reads[0]) == job.arguments[0]
    return job.reads[0] if alone else None


def plain(path: Path) -> str:
    """A path as Shifter will read it; `UsageError` naming what it would drop."""
    path = path.resolve()  # Shifter does not follow an absolute link in a volume's path
    dropped = sorted(set(_DROPPED.findall(str(path))))
    if dropped:
        letters = " ".join(repr(letter) for letter in dropped)
        raise UsageError(
            f"{str(path)!r} cannot be mounted by Shifter, which drops or misreads {letters}",
            "use a path of plain letters, digits and _ . + - /",
        )
    return str(path)


def resolve(reference: str) -> Image:
    """The image of that name at the site's gateway; ``id:HEX`` needs no gateway.

    Raises
    ------
    UsageError
        If there is no Shifter here, or the image is not ready.
    """
    kind, _, identity = reference.partition(":")
    if kind == "id":
        if not _ID.fullmatch(identity):
            raise UsageError(f"--image {reference} is not an id", "write id: and 64 hexadecimal digits")
        return Image(reference, f"sha256:{identity}")
    name = reference
    if not reference.startswith(_KINDS):
        name = f"{Layout.read(containers() / 'shifter.yaml').kind}:{reference}"
    answer = _lookup(name)
    if not _ID.fullmatch(answer):
        said = f": {answer.splitlines()[0]}" if answer else ""
        raise UsageError(
            f"Shifter has no image {name}{said}", f"fetch it with: shifterimg pull {name}, until it is READY"
        )
    return Image(reference, f"sha256:{answer}", (reference,) if "@sha256:" in reference else ())


def _lookup(name: str) -> str:
    """What ``shifterimg lookup`` prints; its exit status says no more than that."""
    program = shutil.which("shifterimg")
    if program is None:
        raise UsageError("there is no command shifterimg here", "use another --runtime")
    try:
        done = subprocess.run(
            [program, "lookup", name],
            env=FIXED,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GATEWAY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"shifterimg does not answer: {error}", "try again later") from None
    return done.stdout.decode("utf-8", "replace").strip()
