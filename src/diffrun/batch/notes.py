# SPDX-License-Identifier: BSD-3-Clause
"""Which jobs were submitted for a run folder: one line of JSON each, in ``NAME.jobs`` beside it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from diffrun.claim import explained

SUFFIX = ".jobs"
_LARGEST = 1024 * 1024


@dataclass(frozen=True)
class Note:
    """One submission: the job's number, the plan's digest, when (UTC)."""

    job: str
    digest: str
    submitted: str


class Notes:
    """The submissions of one run folder, open for reading and adding."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def all(self) -> tuple[Note, ...]:
        """Every whole line, the latest last."""
        return tuple(_notes(os.pread(self._descriptor, _LARGEST, 0)))

    def add(self, note: Note) -> None:
        """One line more, on the disk when this returns."""
        line = json.dumps(asdict(note), sort_keys=True) + "\n"
        os.write(self._descriptor, line.encode())
        os.fsync(self._descriptor)


def path(output: Path) -> Path:
    """Where the notes of a run folder lie."""
    return output.with_name(output.name + SUFFIX)


@contextlib.contextmanager
def opened(output: Path) -> Iterator[Notes]:
    """The notes of a run folder, for one process at a time (the lock is the kernel's: none can be stale)."""
    with explained(path(output)):
        output.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path(output), flags, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without flock: squeue alone tells of another job
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Notes(descriptor)
    finally:
        os.close(descriptor)


def read(output: Path) -> tuple[Note, ...]:
    """The submissions of a run folder, none if it was never submitted."""
    try:
        with path(output).open("rb") as file:
            return tuple(_notes(file.read(_LARGEST)))
    except FileNotFoundError:
        return ()


def _notes(data: bytes) -> Iterator[Note]:
    for line in data.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            yield Note(str(found["job"]), str(found["digest"]), str(found["submitted"]))
