# SPDX-License-Identifier: BSD-3-Clause
"""What the small programs of the engine answer: JSON on standard output, or an exit code and a line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from diffrun.display import clean
from diffrun.errors import ConfigError, DataError, DiffrunError, OutputError, RepositoryError
from diffrun.runtimes import Command, supervise

#: Exit code -> the error that it stands for.
BY_CODE = {kind.exit_code: kind for kind in (ConfigError, RepositoryError, DataError, OutputError)}


def asked(command: Command, name: str, on_start: Callable[[], None] | None = None) -> Any:
    """The JSON that a program prints; raises as `refuse`."""
    said: list[str] = []
    status, answer = supervise.ask(command, said.append, on_start)
    refuse(status, said, name)
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise DiffrunError(f"{name} gave no JSON; it said: {last(said)}") from None


def refuse(status: int, said: Sequence[str], name: str) -> None:
    """Raise what the exit status of a small program means, unless it has done its work."""
    if status < 0:
        ended = signal.Signals(-status).name
        raise DiffrunError(f"{name} was ended by {ended}", f"last it said: {last(said)}")
    if status in BY_CODE:
        raise BY_CODE[status](last(said).removeprefix(f"{name}: "))
    if status != 0:
        raise DiffrunError(f"{name} ended with {status}: {last(said)}")


def last(lines: Iterable[str]) -> str:
    """The last line that says something."""
    spoken = [line.strip() for line in lines if line.strip()]
    return clean(spoken[-1], 400) if spoken else "it said nothing"
