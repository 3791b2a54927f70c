# SPDX-License-Identifier: BSD-3-Clause
"""One pair as a child process: ``diffrun`` itself, which makes the run folder or finds it finished."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from diffrun.campaign import causes
from diffrun.campaign.ledger import DONE, FAILED, Entry
from diffrun.display import clean
from diffrun.request import Request
from diffrun.runtimes.native import python
from diffrun.runtimes.supervise import PARENT

_LARGEST = 1024 * 1024
_GRACE = 10.0


class Child:
    """A running ``diffrun``; it dies with us, and leaves nothing that the next one does not tidy."""

    def __init__(self, pair: Request, words: Sequence[str], limit: float) -> None:
        self.pair, self.limit = pair, limit
        self.begun = time.monotonic()
        self.late = False
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115  # until `close`
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # it ties itself to us: what ran between fork and program would make the fork copy all of our memory
        argv, environment = python("diffrun.cli", words, {**os.environ, PARENT: str(os.getpid())})
        self._process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._answer,
            stderr=self._errors,
            process_group=0,
        )

    def over(self) -> bool:
        """Whether it has ended; what is over its time is told to end."""
        if self._process.poll() is not None:
            return True
        spent = time.monotonic() - self.begun
        if spent > self.limit and not self.late:
            self.late = True
            self.stop()
        elif self.late and spent > self.limit + _GRACE:
            self._signal(signal.SIGKILL)
        return False

    def stop(self) -> None:
        """Tell it to end; it takes its program with it."""
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait until it has ended, and kill it if it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def entry(self, by: str) -> Entry:
        """What the ledger says of it, once it is over."""
        status = self._process.returncode
        said = _last(_text(self._errors))
        spent = round(time.monotonic() - self.begun, 3)
        if status == 0:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                digest = str(json.loads(_text(self._answer))["digest"])
                return Entry(self.pair.name, DONE, by=by, digest=digest, seconds=spent)
        cause = "time limit" if self.late else causes.of(status, said)
        return Entry(self.pair.name, FAILED, by=by, cause=cause, message=said, seconds=spent)

    def close(self) -> None:
        """Let its answers go."""
        self._answer.close()
        self._errors.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_LARGEST).decode("utf-8", "replace")


def _last(text: str) -> str:
    """The line that says why, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("diffrun: ")]
    return clean(
        (said or lines or ["it said nothing"])[-1].removeprefix("diffrun: ").removeprefix("error: "), 400
    )
