# SPDX-License-Identifier: BSD-3-Clause
"""Who does the pairs: children on this machine, or the workers of `diffrun.campaign.htex`."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from diffrun.campaign.child import Child
from diffrun.campaign.ledger import Entry
from diffrun.capacity import free_memory
from diffrun.request import Request

#: What a pair is given where nothing is known of it, in bytes.
PAIR_MEMORY = 1024**3


class Work(Protocol):
    """One pair that is under way."""

    @property
    def pair(self) -> Request:
        """Which."""

    def over(self) -> bool:
        """Whether it has ended."""

    def stop(self) -> None:
        """Tell it to end."""

    def end(self) -> None:
        """Wait until it has ended."""

    def entry(self, by: str) -> Entry:
        """What the ledger says of it, once it is over."""

    def close(self) -> None:
        """Let its answers go."""


class Crew(Protocol):
    """Those who do pairs."""

    def room(self) -> int:
        """How many pairs may be under way now."""

    def busy(self, begun: int) -> int:
        """How many of those that were begun are really done at this moment."""

    def begin(self, pair: Request, words: Sequence[str]) -> Work:
        """Have a pair done by ``diffrun WORDS``."""


@dataclass(frozen=True)
class Here:
    """Children of this very process: so many at a time, each with a limit in seconds."""

    at_once: int
    limit: float

    def room(self) -> int:
        """How many pairs may be under way."""
        return self.at_once

    def busy(self, begun: int) -> int:
        """All."""
        return begun

    def begin(self, pair: Request, words: Sequence[str]) -> Work:
        """Start a child."""
        return Child(pair, words, self.limit)


def workers(memory: int = PAIR_MEMORY) -> int:
    """How many pairs this machine does at a time: one a processor, and so many free bytes for each."""
    processors, free = len(os.sched_getaffinity(0)), free_memory()
    return processors if free is None else max(1, min(processors, int(free // memory)))


def signature() -> str:
    """Who writes into the ledger."""
    job, node = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURMD_NODENAME")
    return f"{node or socket.gethostname()}:{os.getpid()}" + (f" job {job}" if job else "")
