# SPDX-License-Identifier: BSD-3-Clause
"""One pair in a worker of Parsl: `diffrun` as a child, which ends when the worker does."""

from __future__ import annotations

import time
from collections.abc import Sequence

from diffrun.campaign.child import Child
from diffrun.campaign.crew import signature
from diffrun.campaign.ledger import Entry
from diffrun.request import Request
from diffrun.runtimes.supervise import tie_to_parent

_PAUSE = 0.05


def do(pair: Request, words: Sequence[str], limit: float) -> Entry:
    """Do a pair; what the ledger is to say of it.

    A worker outlives the manager of its node by some seconds where that is killed, and its pair would be
    begun elsewhere meanwhile: so the worker ties itself to the manager, as its child is tied to it.
    """
    tie_to_parent()
    child = Child(pair, words, limit)
    try:
        while not child.over():
            time.sleep(_PAUSE)
        return child.entry(signature())
    finally:
        child.close()
