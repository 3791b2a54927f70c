# SPDX-License-Identifier: BSD-3-Clause
"""What a program says while it works: its lines give the stages, the warnings and the cause of a failure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from diffrun.display import Progress, Screen, clean

_LINE = re.compile(r"(?P<logger>\S+) (?P<level>FATAL|ERROR|WARN|WARNING|INFO|DEBUG|TRACE): (?P<text>.*)")
_USAGE = re.compile(r"\S+: error: (?P<text>.*)")
_FAILED = re.compile(r"Failed (on dataId=\{[^}]*\}|in task initialization): (?P<text>.*)")
_ALGEBRA = "Linear algebra: "
_IMAGES = "Images written of "
#: How the entry command of an image begins its first line.
_ENTERED = "diffrun-entry: "

#: How the stack's words begin -> the stage that begins with them.
STAGES = (
    ("Processing ", "read and warp"),
    ("Source selection", "choose stars"),
    ("Subtracting images", "match and subtract"),
    ("Decorrelating", "decorrelate"),
    ("Running diaSource detection", "detect"),
    ("Running diaSource measurement", "measure"),
    ("Writing", "write"),
)


@dataclass
class Listener:
    """Follows the lines of one program.

    Attributes
    ----------
    screen, progress
        Where stages and, with ``-v``, lines are shown.
    log : text stream
        Where each line is kept.
    each : `bool`
        Leave one line for each stage; without, only the running stage is shown.
    on_images : callable
        Told the data id whose images are written, while its sources are measured.
    seconds : `dict`
        Time spent in each stage, in the order in which they began.
    warnings : `list` [`str`]
    failure : `str`
        The last FATAL or ERROR message, empty if there was none.
    usage : `bool`
        Whether the failure is a refusal of the command line.
    blas : `str`
        The linear algebra that the program says it computes with.
    entered : `bool`
        Whether the entry command of an image was reached; until then it is the runtime that speaks.
    """

    screen: Screen
    progress: Progress
    log: TextIO
    each: bool = True
    on_images: Callable[[str], None] = lambda data_id: None
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failure: str = ""
    usage: bool = False
    blas: str = "unknown"
    entered: bool = False
    _last: str = ""
    _stage: str = ""
    _since: float = 0.0

    def begin(self, stage: str = "start the engine") -> None:
        """A stage begins, and the one before it is over."""
        now = self.clock()
        if self._stage and stage != self._stage:
            spent = now - self._since
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + spent
            if self.each:
                self.progress.done(self._stage, spent)
        if stage != self._stage:
            self._stage, self._since = stage, now
        if stage:
            self.progress.running(stage)

    def end(self) -> None:
        """The program is over."""
        self.begin("")

    def hear(self, line: str) -> None:
        """One line of the program."""
        self.log.write(clean(line) + "\n")
        self.screen.detail(line)
        if line.startswith(_ENTERED):
            self.entered = True
        if line.strip():
            self._last = line.strip()
        if usage := _USAGE.fullmatch(line):
            self.failure, self.usage = usage["text"], True
        if not (said := _LINE.fullmatch(line)):
            return
        level, text = said["level"], said["text"]
        if level in ("WARN", "WARNING"):
            self.warnings.append(clean(text))
        elif level in ("FATAL", "ERROR"):
            failed = _FAILED.fullmatch(text)
            self.failure, self.usage = failed["text"] if failed else text, False
        if text.startswith(_ALGEBRA):
            self.blas = clean(text.removeprefix(_ALGEBRA), 400)
        elif text.startswith(_IMAGES):
            self.on_images(text.removeprefix(_IMAGES))
        for words, stage in STAGES:
            if text.startswith(words):
                self.begin(stage)

    @property
    def cause(self) -> str:
        """The failure in the program's own words, or the last that it said."""
        return clean(self.failure or self._last or "it said nothing", 400)
