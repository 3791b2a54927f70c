# SPDX-License-Identifier: BSD-3-Clause
"""How the pairs of a campaign stand, from its ledger and its run folders alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.batch.submit import finished
from diffrun.campaign import causes, pairs
from diffrun.campaign.ledger import DONE, FAILED, Entry, Ledger
from diffrun.display import counted
from diffrun.errors import UsageError
from diffrun.request import Request

PAIRS, RUNS = "pairs.csv", "runs"


def run_folder(folder: Path, pair: Request) -> Path:
    """Where the run of a pair lies."""
    return folder / RUNS / pair.name


@dataclass(frozen=True)
class Todo:
    """A pair that is to be done, and why, if it was begun before."""

    pair: Request
    why: str


@dataclass(frozen=True)
class Standing:
    """A campaign: its pairs, what is done, what failed for good, and what is left to do."""

    folder: Path
    total: int
    done: tuple[Request, ...]
    failed: tuple[tuple[Request, Entry], ...]
    todo: tuple[Todo, ...]

    @property
    def pairs(self) -> tuple[Request, ...]:
        """All that were asked for."""
        return (*self.done, *(pair for pair, _ in self.failed), *(each.pair for each in self.todo))

    @property
    def causes(self) -> dict[str, int]:
        """How many failed, by cause, the commonest first."""
        return dict(Counter(entry.cause for _, entry in self.failed).most_common())

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "campaign": str(self.folder),
            "pairs": self.total,
            "done": len(self.done),
            "left": len(self.todo),
            "failed": [
                {"pair": pair.name, "cause": entry.cause, "message": entry.message}
                for pair, entry in self.failed
            ],
        }

    def __str__(self) -> str:
        return (
            f"{counted(self.total, 'pair')}: {len(self.done)} done, {told(self.causes)}{len(self.todo)} left"
        )


def told(found: dict[str, int]) -> str:
    """``3 failed (2 no stars, 1 bad data), ``; nothing if none did."""
    if not found:
        return ""
    return f"{sum(found.values())} failed ({', '.join(f'{n} {cause}' for cause, n in found.items())}), "


def pairs_of(folder: Path) -> tuple[Request, ...]:
    """The pairs that a campaign has; `UsageError` if there is none."""
    path = folder / PAIRS
    if not path.is_file():
        raise UsageError(f"{folder} is no campaign", "begin one with: diffrun campaign run --pairs FILE")
    return pairs.read(path)


def survey(folder: Path, asked: Iterable[Request], again: bool = False) -> Standing:
    """How pairs stand; with ``again`` those that failed for good are to be done too."""
    latest = Ledger(folder).latest()
    done, failed, todo = [], [], []
    asked = tuple(asked)
    for pair in asked:
        entry = latest.get(pair.name)
        if entry is None:
            todo.append(Todo(pair, ""))
        elif entry.state == DONE and finished(run_folder(folder, pair), entry.digest):
            done.append(pair)
        elif entry.state == FAILED and entry.cause not in causes.PASSING and not again:
            failed.append((pair, entry))
        else:
            todo.append(Todo(pair, _why(entry)))
    return Standing(folder, len(asked), tuple(done), tuple(failed), tuple(todo))


def _why(entry: Entry) -> str:
    if entry.state == DONE:
        return "its run folder is gone, or is of another plan"
    if entry.state == FAILED:
        return f"it failed: {entry.cause}"
    return f"it was begun at {entry.at} by {entry.by} and did not end"
