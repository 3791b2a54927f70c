# SPDX-License-Identifier: BSD-3-Clause
"""Why a pair failed, in a few words that can be counted, and whether it may pass when it is tried again."""

from __future__ import annotations

import signal

#: What may be gone the next time.
PASSING = frozenset({"killed", "stopped", "time limit", "disk full", "lost"})

_BY_CODE = {2: "configuration", 3: "not there", 4: "bad data", 5: "output", 7: "batch", 8: "advice"}
_NO_ROOM = ("no room", "No space left", "Disk quota exceeded")
#: What a message says -> the cause, where the exit code alone tells less.
_BY_WORDS = {
    4: (("kernel candidates", "no stars"), ("overlap", "no overlap"), ("star", "no stars")),
    8: (("overlap:", "no overlap"), ("stars:", "no stars")),
    1: (("was killed", "killed"), ("was ended by SIG", "killed")),
}


def of(status: int, message: str) -> str:
    """The cause of an exit status of ``diffrun`` and its line; a negative status is a signal's number."""
    if status < 0:
        return "killed"
    if status in (128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)):
        return "stopped"
    if status == 128 + signal.SIGKILL:
        return "killed"
    if any(words in message for words in _NO_ROOM):
        return "disk full"
    for words, cause in _BY_WORDS.get(status, ()):
        if words in message:
            return cause
    return _BY_CODE.get(status, "fault")
