# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun doctor``: what this machine has, what a run would use here, and whether the engine works."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffrun
from diffrun import settings
from diffrun.capacity import room, total_memory
from diffrun.display import clean
from diffrun.errors import DiffrunError
from diffrun.request import Request
from diffrun.runtimes import ENGINE, Job, allow, choose, resolve, supervise
from diffrun.versions import LIBRARIES, versions

_NEEDED_GIB = 1.0
_CONTAINERS = ("docker", "podman", "apptainer", "shifter")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: good, or not, and what was seen."""

    name: str
    good: bool
    seen: str


@dataclass(frozen=True)
class Report:
    """All findings; prints as aligned lines."""

    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether a run with the settings of this place would work."""
        return all(finding.good for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"well": self.well} | {f.name: {"good": f.good, "seen": f.seen} for f in self.findings}

    def __str__(self) -> str:
        lines = [f"{'ok' if f.good else 'BAD':<4} {f.name:<12} {clean(f.seen)}" for f in self.findings]
        last = (
            "all is well: try diffrun --science 230 --template 250"
            if self.well
            else "not well: see BAD above"
        )
        return "\n".join([*lines, "", last])


def examine(environment: Mapping[str, str] | None = None) -> Report:
    """Look at everything a run needs, and change nothing."""
    found = [
        _diffrun(),
        _machine(),
        _memory(),
        *_settings(environment),
        _libraries(),
        _engine(),
        _containers(),
    ]
    found += [Finding("note", True, line) for line in settings.unknown_variables(environment)]
    return Report(tuple(found))


def _diffrun() -> Finding:
    return Finding("diffrun", True, f"{diffrun.__version__} in {Path(diffrun.__file__).parent}")


def _machine() -> Finding:
    seen = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    )
    return Finding("machine", sys.version_info >= (3, 11), seen)


def _memory() -> Finding:
    total = total_memory()
    if total is None:
        return Finding("memory", True, "unknown")
    gib = total / 2**30
    return Finding("memory", gib >= _NEEDED_GIB, f"{gib:.1f} GiB (a full sensor needs {_NEEDED_GIB:.0f})")


def _settings(environment: Mapping[str, str] | None) -> list[Finding]:
    try:
        resolved = settings.resolve(Request(science=0, template=0), environment)
        program, runtime = resolved.program.value, resolved.runtime.value
        allow(program, runtime)
        image = resolve(program, runtime, resolved.image.value)
    except DiffrunError as error:
        return [Finding("settings", False, str(error))]
    rows = resolved.as_dict()
    found = [
        Finding(name, True, f"{rows[name]['value']} ({rows[name]['origin']})") for name in ("site", "program")
    ]
    found.append(Finding("runtime", True, f"{runtime} ({resolved.runtime.origin})"))
    if image:
        found.append(Finding("image", True, f"{image.name}, {image.id} ({resolved.image.origin})"))
    repo = resolved.repo
    good = repo.value is None or repo.value.is_dir()
    shown = repo.value or "the Twinkles subset that comes with diffrun"
    found.append(Finding("repository", good, f"{shown} ({repo.origin})"))
    found.append(_room(resolved.output_root.value))
    return found


def _room(folder: Path) -> Finding:
    place, free = room(folder)
    writable = os.access(place, os.W_OK | os.X_OK)
    seen = f"{folder}, {free / 2**30:.1f} GiB free" + ("" if writable else ", but you may not write there")
    return Finding("output", writable and free > 2**30, seen)


def _libraries() -> Finding:
    found = dict(versions())
    seen = ", ".join(f"{name} {found[name]}" for name in LIBRARIES)
    return Finding("libraries", "missing" not in seen, seen)


def _engine() -> Finding:
    """Start the engine as a run would, up to its help."""
    said: list[str] = []
    try:
        command = choose("engine", "native").command(Job(ENGINE, ("--help",)))
        status, _ = supervise.ask(command, said.append)
    except DiffrunError as error:
        return Finding("engine", False, str(error))
    if status == 0:
        return Finding("engine", True, "starts")
    return Finding("engine", False, f"does not start: {said[-1] if said else f'exit status {status}'}")


def _containers() -> Finding:
    there = [name for name in _CONTAINERS if shutil.which(name)]
    return Finding("containers", True, ", ".join(there) if there else "none found")
