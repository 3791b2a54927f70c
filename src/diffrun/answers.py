# SPDX-License-Identifier: BSD-3-Clause
"""What the small programs of the engine answer: JSON on standard output, or an exit code and a line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from typing import Any

from diffrun.display import clean
from diffrun.errors import ConfigError, DataError, DiffrunError, OutputError, RepositoryError
from diffrun.runtimes import Command, supervise

#: Exit code -> the error that it stands for.
BY_CODE = {
    kind.exit_code: kind for kind in (DiffrunError, ConfigError, RepositoryError, DataError, OutputError)
}


def asked(command: Command, on_start: Callable[[], None] | None = None) -> Any:
    """The JSON that a program prints; its refusal as the error that its exit code stands for."""
    said: list[str] = []
    status, answer = supervise.ask(command, said.append, on_start)
    if status < 0:
        raise DiffrunError(
            f"the program was ended by {signal.Signals(-status).name}", f"it said: {last(said)}"
        )
    if status != 0:
        raise BY_CODE.get(status, DiffrunError)(last(said).removeprefix("makeCalexp: "))
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise DiffrunError(f"the program gave no JSON; it said: {last(said)}") from None


def last(lines: Iterable[str]) -> str:
    """The last line that says something."""
    spoken = [line.strip() for line in lines if line.strip()]
    return clean(spoken[-1], 400) if spoken else "it said nothing"
