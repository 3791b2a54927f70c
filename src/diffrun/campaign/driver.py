# SPDX-License-Identifier: BSD-3-Clause
"""Has pairs done: so many at a time, each change in the ledger before the next begins.

Nothing is in memory but the names of the pairs, and what is under way: what is done is on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from diffrun.campaign import causes
from diffrun.campaign.crew import Crew, Work, signature
from diffrun.campaign.ledger import DONE, STARTED, Entry, Ledger
from diffrun.campaign.recipe import Recipe
from diffrun.campaign.standing import Todo, run_folder
from diffrun.claim import explained
from diffrun.errors import OutputError

ATTEMPTS = 3
_PAUSE = 0.05

#: Called at each turn with the children that run, and with each entry as it is written.
OnTurn = Callable[[int], None]
OnEntry = Callable[[Entry], None]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the campaign; `OutputError` if another driver does (a kernel's lock: none can be stale)."""
    path = folder / ".driver.lock"
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another command works on {folder}", "see: diffrun campaign status") from None
        except OSError:
            pass  # a file system without flock: each run folder has its own claim all the same
        yield
    finally:
        os.close(descriptor)


def drive(
    folder: Path, recipe: Recipe, todo: Sequence[Todo], crew: Crew, on_turn: OnTurn, on_entry: OnEntry
) -> None:
    """Have pairs done until none is left; those that fail for a passing cause are tried again.

    Parameters
    ----------
    folder : `pathlib.Path`
        The campaign's.
    recipe : `Recipe`
    todo : sequence of `Todo`
    crew : `Crew`
    on_turn, on_entry : callable

    Raises
    ------
    DiskFullError, OutputError
        If the ledger cannot be written: nothing is under way then.
    BatchError
        If the crew is lost.
    """
    ledger, by = Ledger(folder), signature()
    waiting = deque(each.pair for each in todo)
    tries: Counter[str] = Counter()
    running: list[Work] = []
    try:
        while waiting or running:
            room = max(0, crew.room() - len(running))
            new = [waiting.popleft() for _ in range(min(room, len(waiting)))]
            ledger.add(*(Entry(pair.name, STARTED, by=by) for pair in new))
            for pair in new:
                tries[pair.name] += 1
                running.append(crew.begin(pair, recipe.command(pair, run_folder(folder, pair))))
            over = [work for work in running if work.over()]
            running = [work for work in running if work not in over] if over else running
            entries = [(work, work.entry(by)) for work in over]
            ledger.add(*(entry for _, entry in entries))
            for work, entry in entries:
                work.close()
                if _again(entry) and tries[entry.pair] < ATTEMPTS:
                    waiting.append(work.pair)
                else:
                    tries.pop(entry.pair, None)
                    on_entry(entry)
            on_turn(crew.busy(len(running)))
            if not over:
                time.sleep(_PAUSE)
    finally:
        _end(running, ledger, by)


def _again(entry: Entry) -> bool:
    """Whether it may pass at once; a pair that took too long takes its time by the next command."""
    return entry.state != DONE and entry.cause in causes.PASSING and entry.cause != "time limit"


def _end(running: Sequence[Work], ledger: Ledger, by: str) -> None:
    """End what runs, and say so in the ledger if it can still be written."""
    for work in running:
        work.stop()
    for work in running:
        work.end()
    with contextlib.suppress(OutputError):
        ledger.add(*(work.entry(by) for work in running))
    for work in running:
        work.close()
