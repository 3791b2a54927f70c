# SPDX-License-Identifier: BSD-3-Clause
"""One line of advice: said by the engine, passed on by the launcher, and the same for both."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, STOP = "ok", "note", "stop"


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: ok, a note, or a reason to stop; what was seen, and the remedy."""

    name: str
    verdict: str
    seen: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """What was seen, and the remedy if there is one."""
        return f"{self.seen}; {self.remedy}" if self.remedy else self.seen

    def as_dict(self) -> dict[str, str]:
        """For what is printed for machines."""
        return {"name": self.name, "verdict": self.verdict, "seen": self.seen, "remedy": self.remedy}
