# SPDX-License-Identifier: BSD-3-Clause
"""What a pair of a campaign takes, as ``diffrun check`` tells of the first that it can look at."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from diffrun.campaign.recipe import Recipe
from diffrun.campaign.standing import Standing, run_folder
from diffrun.display import duration
from diffrun.runtimes import Command, supervise
from diffrun.runtimes.native import python

_MIB, _GIB = 1024**2, 1024**3
#: The forecast's own error, and the launcher of the pair.
_ERROR, _LAUNCHER = 1.25, 64 * _MIB
#: Pairs that are asked for, until one answers.
_TRIED = 3


@dataclass(frozen=True)
class Forecast:
    """What one pair takes.

    Attributes
    ----------
    pair : `str`
        That which was looked at.
    seconds : `float`
        Of processor time, for each of its sensors.
    memory : `int`
        Bytes to be free for it.
    """

    pair: str
    seconds: float
    memory: int

    def __str__(self) -> str:
        return (
            f"a sensor of a pair takes about {duration(self.seconds)} of processor time, "
            f"with {self.memory / _GIB:.2f} GiB for it, by {self.pair}"
        )


def of(common: Recipe, standing: Standing) -> Forecast | None:
    """The forecast for what is to be done; `None` if none of the first pairs can be looked at."""
    for each in standing.todo[:_TRIED]:
        words = ["check", *common.command(each.pair, run_folder(standing.folder, each.pair))]
        found = _asked(words)
        if found:
            seconds, memory = found
            return Forecast(each.pair.name, seconds, int(memory * _MIB * _ERROR) + _LAUNCHER)
    return None


def _asked(words: Sequence[str]) -> tuple[float, float] | None:
    """Seconds and MiB that a ``diffrun check`` answers."""
    argv, environment = python("diffrun.cli", words, os.environ)
    _, answer = supervise.ask(Command(argv, environment), lambda _: None)
    try:
        cost = json.loads(answer)["survey"]["cost"]
        return float(cost["seconds"]), float(cost["memory_mib"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
