# SPDX-License-Identifier: BSD-3-Clause
"""How the pairs of a campaign stand, from its ledger and its run folders alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.campaign import causes, pairs
from diffrun.campaign.ledger import DONE, FAILED, Entry, Ledger
from diffrun.display import counted
from diffrun.errors import UsageError
from diffrun.outputs import RECORD
from diffrun.request import Request

PAIRS, RUNS = "pairs.csv", "runs"
#: Run folders that are asked for at a time, and that wait to be.
_AT_A_TIME, _AHEAD = 16, 1024


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


def survey(
    folder: Path, asked: Iterable[Request], again: bool = False, before: Standing | None = None
) -> Standing:
    """How pairs stand.

    Parameters
    ----------
    folder : `pathlib.Path`
    asked : iterable of `Request`
    again : `bool`, optional
        Whether those that failed for good are to be done too.
    before : `Standing`, optional
        How they stood a moment ago: the run folders that were there are not looked at again.
    """
    latest = Ledger(folder).latest()
    done, failed, todo = [], [], []
    asked = tuple(asked)
    there = _there(folder, asked, latest, {pair.name for pair in before.done} if before else set())
    for pair in asked:
        entry = latest.get(pair.name)
        if entry is None:
            todo.append(Todo(pair, ""))
        elif entry.state == DONE and pair.name in there:
            done.append(pair)
        elif entry.state == FAILED and entry.cause not in causes.PASSING and not again:
            failed.append((pair, entry))
        else:
            todo.append(Todo(pair, _why(entry)))
    return Standing(folder, len(asked), tuple(done), tuple(failed), tuple(todo))


def _there(folder: Path, asked: Iterable[Request], latest: Mapping[str, Entry], known: set[str]) -> set[str]:
    """The pairs whose run folders are there, made by the plan that the ledger names.

    Many are asked for at a time, for a shared file system answers each only after a while; the threads are
    gone before the driver forks.
    """
    found = {name for name in known if name in latest and latest[name].state == DONE}
    told = [pair for pair in asked if pair.name not in found and pair.name in latest]
    told = [pair for pair in told if latest[pair.name].state == DONE]
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        for first in range(0, len(told), _AHEAD):
            some = told[first : first + _AHEAD]
            there = threads.map(lambda pair: _is_there(folder, pair, latest[pair.name].digest), some)
            found.update(pair.name for pair, yes in zip(some, there, strict=True) if yes)
    return found


def _is_there(folder: Path, pair: Request, digest: str) -> bool:
    """Whether a run folder has the record of a plan (it came with it, whole)."""
    try:
        return f'"{digest}"'.encode() in (run_folder(folder, pair) / RECORD).read_bytes()
    except OSError:
        return False


def _why(entry: Entry) -> str:
    if entry.state == DONE:
        return "its run folder is gone, or is of another plan"
    if entry.state == FAILED:
        return f"it failed: {entry.cause}"
    return f"it was begun at {entry.at} by {entry.by} and did not end"
