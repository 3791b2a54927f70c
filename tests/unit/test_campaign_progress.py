# SPDX-License-Identifier: BSD-3-Clause
"""What a campaign says of itself where there is no terminal: a plain line a minute."""

from __future__ import annotations

import io

import pytest

from diffrun.campaign import progress
from diffrun.campaign.ledger import DONE, FAILED, Entry
from diffrun.display import Screen


def test_a_plain_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour of turns, five a second, by a clock of our own; a pair is done every 20 seconds."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    screen = Screen(out=io.StringIO())
    told = progress.Progress(screen, 300)
    for second in range(1, 1801):
        for fifth in range(5):
            now = second + 0.2 * fifth
            told.turn(2)
        if second % 20 == 0:
            told.ended(
                Entry(f"{second}-9", FAILED, cause="no stars", message="none")
                if second == 600
                else Entry(f"{second}-9", DONE)
            )
    told.close()
    lines = screen.out.getvalue().splitlines()
    assert lines.pop(9 if "600-9" in lines[9] else 10) == "600-9: no stars: none"
    assert 29 <= len(lines) <= 30
    assert lines[0] == "2 of 300 done, 2 running, 120 an hour, 149 min 00 s left"
    assert lines[-1].startswith("8") and ", 1 failed (1 no stars), 2 running, " in lines[-1]
