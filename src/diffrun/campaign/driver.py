# SPDX-License-Identifier: BSD-3-Clause
"""Does pairs on this machine: so many children at a time, each change in the ledger before the next begins.

One thread, and nothing in memory but the names of the pairs: what is done is on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from diffrun.campaign import causes
from diffrun.campaign.child import Child
from diffrun.campaign.ledger import DONE, STARTED, Entry, Ledger
from diffrun.campaign.recipe import Recipe
from diffrun.campaign.standing import Todo, run_folder
from diffrun.claim import explained
from diffrun.errors import OutputError

ATTEMPTS = 3
_PAUSE = 0.05
_PAIR_MEMORY = 1024**3

#: Called at each turn with the children that run, and with each entry as it is written.
OnTurn = Callable[[int], None]
OnEntry = Callable[[Entry], None]


def workers() -> int:
    """How many pairs this machine does at a time: one a processor, and a GiB of free memory for each."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return max(1, min(len(os.sched_getaffinity(0)), free // _PAIR_MEMORY))


def signature() -> str:
    """Who writes into the ledger."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"{socket.gethostname()}:{os.getpid()}" + (f" job {job}" if job else "")


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
    folder: Path,
    recipe: Recipe,
    todo: Sequence[Todo],
    at_once: int,
    limit: float,
    on_turn: OnTurn,
    on_entry: OnEntry,
) -> None:
    """Do pairs until none is left; those that fail for a passing cause are tried again.

    Parameters
    ----------
    folder : `pathlib.Path`
        The campaign's.
    recipe : `Recipe`
    todo : sequence of `Todo`
    at_once : `int`
    limit : `float`
        Seconds that one pair may take.
    on_turn, on_entry : callable

    Raises
    ------
    DiskFullError, OutputError
        If the ledger cannot be written: all children have ended then.
    """
    ledger, by = Ledger(folder), signature()
    waiting = deque(each.pair for each in todo)
    tries: Counter[str] = Counter()
    running: list[Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                pair = waiting.popleft()
                tries[pair.name] += 1
                ledger.add(Entry(pair.name, STARTED, by=by))
                running.append(Child(pair, recipe.command(pair, run_folder(folder, pair)), limit))
            over = [child for child in running if child.over()]
            for child in over:
                running.remove(child)
                entry = child.entry(by)
                child.close()
                ledger.add(entry)
                again = entry.cause in causes.PASSING and entry.cause != "time limit"
                if entry.state != DONE and again and tries[entry.pair] < ATTEMPTS:
                    waiting.append(child.pair)
                else:
                    tries.pop(entry.pair, None)
                    on_entry(entry)
            on_turn(len(running))
            if not over:
                time.sleep(_PAUSE)
    finally:
        _end(running, ledger, by)


def _end(running: Sequence[Child], ledger: Ledger, by: str) -> None:
    """End what runs, and say so in the ledger if it can still be written."""
    for child in running:
        child.stop()
    for child in running:
        child.end()
        with contextlib.suppress(OutputError):
            ledger.add(child.entry(by))
        child.close()
