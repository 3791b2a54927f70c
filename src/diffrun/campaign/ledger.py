# SPDX-License-Identifier: BSD-3-Clause
"""What happened to each pair: one line of JSON a change, only added to, on the disk before work goes on.

Any number of processes may add lines and read them at the same time. A line that a full disk or a dead node
has cut short is passed over, and the next one begins on a line of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from diffrun.claim import explained
from diffrun.files.atomic import sync_folder

NAME = "ledger.jsonl"
STARTED, DONE, FAILED = "started", "done", "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change.

    Attributes
    ----------
    pair : `str`
        Its name, which is that of its run folder.
    state : `str`
        ``started``, ``done`` or ``failed``.
    at : `str`
        UTC.
    by : `str`
        Host and process, or job, that did it.
    digest : `str`
        Of the plan, of what is done.
    cause, message : `str`
        Of what failed.
    seconds : `float`
        How long it took.
    """

    pair: str
    state: str
    at: str = ""
    by: str = ""
    digest: str = ""
    cause: str = ""
    message: str = ""
    seconds: float = 0.0


class Ledger:
    """The ledger of one campaign."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def add(self, *entries: Entry) -> None:
        """One line more for each, on the disk when this returns.

        Raises
        ------
        DiskFullError, OutputError
            If they cannot be written; nothing after them may then be done.
        """
        if not entries:
            return
        text = b"".join(map(_line, entries))
        with explained(self.path):
            new = not self.path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o666)
            try:
                text = b"\n" + text if _torn(descriptor) else text
                written = os.write(descriptor, text)
                while written < len(text):  # a disk that fills: the next write says so
                    written += os.write(descriptor, text[written:])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                sync_folder(self.path.parent)

    def entries(self) -> Iterator[Entry]:
        """Every whole line, in the order in which they were written."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for line in file:
                with contextlib.suppress(ValueError, TypeError):
                    yield Entry(**json.loads(line))

    def latest(self) -> dict[str, Entry]:
        """The last change of each pair; what is done stays done, whoever says less of it later."""
        found: dict[str, Entry] = {}
        for entry in self.entries():
            before = found.get(entry.pair)
            if before is None or before.state != DONE or entry.state == DONE:
                found[entry.pair] = entry
        return found


def _line(entry: Entry) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = {key: value for key, value in asdict(entry).items() if value} | {"at": now}
    return json.dumps(told, sort_keys=True).encode() + b"\n"


def _torn(descriptor: int) -> bool:
    """Whether the last line was cut short."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
