# SPDX-License-Identifier: BSD-3-Clause
"""What a person sees: lines on the right stream, quiet or loud, and nothing that steers the terminal."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

_LABEL = 10
#: Least columns in which a sentence is folded, and what is left whole then.
_ROOM = 40
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def clean(text: str, limit: int = 2000) -> str:
    """``text`` on one line, with everything that could steer a terminal written as an escape.

    Control characters, bidirectional marks, line separators and lone surrogates (bytes of a file name
    that are not UTF-8) become ``\\x1b``, ``\\u202e``, ...; what is longer than ``limit`` is cut.
    """
    if len(text) > limit:
        text = text[:limit] + "..."
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 dipole``, ``3 dipoles``."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def shown(path: Path) -> str:
    """A path as short as it can be typed here: relative where it lies below the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def duration(seconds: float) -> str:
    """``0.4 s``, ``12.3 s``, ``2 min 05 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


@dataclass
class Screen:
    """Where lines for people go.

    Attributes
    ----------
    out : text stream
        Standard output; standard error when standard output is for a machine.
    verbosity : `int`
        -1 quiet (results and errors alone), 0, 1 (the program's own log lines as well).
    console : `rich.console.Console`, optional
        While a moving line is shown, what prints above it.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    verbosity: int = 0
    console: Console | None = None

    def line(self, text: str = "") -> None:
        """One line, unless quiet."""
        if self.verbosity >= 0:
            self.result(text)

    def result(self, text: str) -> None:
        """One line that even a quiet run shows."""
        if self.console is not None:
            self.console.print(clean(text), soft_wrap=True)
        else:
            print(clean(text), file=self.out, flush=True)

    def fact(self, label: str, text: str) -> None:
        """One line with its label in a column, unless quiet."""
        self.line(f"{label:<{_LABEL}} {text}")

    def remark(self, label: str, text: str) -> None:
        """A sentence with its label, unless quiet; on a terminal it is folded between words."""
        head = f"{label:<{_LABEL}} "
        room = self._columns() - len(head)
        for part in (room >= _ROOM and textwrap.wrap(clean(text), room, **_WHOLE)) or [text]:
            self.line(head + part)
            head = " " * len(head)

    def _columns(self) -> int:
        """Columns of the terminal that is written on; 0 if it is none, or of no known width."""
        try:
            return os.get_terminal_size(self.out.fileno()).columns if self.out.isatty() else 0
        except (OSError, ValueError):
            return 0

    def detail(self, text: str) -> None:
        """One line of the program's own log, when asked for."""
        if self.verbosity > 0:
            self.result(f"    {text}")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress by stage: a moving line on a terminal, and one line for each finished stage."""
        progress = Progress(self)
        try:
            yield progress
        finally:
            progress.close()


class Progress:
    """Shows the running stage, and leaves one line for each that is over."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._live: Status | None = None

    def running(self, stage: str) -> None:
        """Say that a stage has begun; the first call starts a thread that keeps the line moving."""
        if self._screen.verbosity < 0 or not self._screen.out.isatty():
            return
        if self._live is None:
            from rich.console import Console

            console = Console(file=self._screen.out, highlight=False, markup=False, emoji=False)
            self._live = console.status("")
            self._screen.console = console
            self._live.start()
        self._live.update(clean(stage))

    def done(self, stage: str, seconds: float) -> None:
        """Say that a stage is over."""
        self._screen.line(f"  {stage:<28} {duration(seconds):>8}")

    def close(self) -> None:
        """Take the moving line away."""
        if self._live is not None:
            self._live.stop()
            self._screen.console = None
