# SPDX-License-Identifier: BSD-3-Clause
"""How far a campaign is: a moving line on a terminal, elsewhere one plain line a minute."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from diffrun.campaign.ledger import DONE, Entry
from diffrun.campaign.standing import told
from diffrun.display import Screen, clean, duration

if TYPE_CHECKING:
    from rich.live import Live

_EVERY = 60.0
_MOVING = 0.5


class Progress:
    """Counts what ends, and shows it. No thread: the driver forks."""

    def __init__(self, screen: Screen, todo: int) -> None:
        self._screen, self._todo = screen, todo
        self._begun = self._shown = time.monotonic()
        self._live: Live | None = None
        self.done = 0
        self.failed: Counter[str] = Counter()
        if screen.verbosity >= 0 and screen.out.isatty():
            from rich.console import Console
            from rich.live import Live as Moving

            screen.console = Console(file=screen.out, highlight=False, markup=False, emoji=False)
            self._live = Moving(console=screen.console, auto_refresh=False, transient=True)
            self._live.start()

    def ended(self, entry: Entry) -> None:
        """One pair is over."""
        if entry.state == DONE:
            self.done += 1
            return
        self.failed[entry.cause] += 1
        self._screen.line(f"{entry.pair}: {entry.cause}: {entry.message}")

    def turn(self, running: int) -> None:
        """Show how far it is, when it is time to."""
        now = time.monotonic()
        if now - self._shown < (_MOVING if self._live else _EVERY):
            return
        self._shown = now
        if self._live:
            self._live.update(clean(self.line(running, now)), refresh=True)
        else:
            self._screen.line(self.line(running, now))

    def line(self, running: int, now: float) -> str:
        """``12 of 300 done, 1 failed (1 no stars), 2 running, 40 an hour, 7 min 12 s left``."""
        over = self.done + sum(self.failed.values())
        text = f"{self.done} of {self._todo} done, {told(dict(self.failed.most_common()))}{running} running"
        spent = now - self._begun
        if not over or spent <= 0:
            return text
        left = (self._todo - over) * spent / over
        return f"{text}, {3600 * over / spent:.0f} an hour, {duration(left)} left"

    def close(self) -> None:
        """Take the moving line away."""
        if self._live is not None:
            self._live.stop()
            self._screen.console = None
