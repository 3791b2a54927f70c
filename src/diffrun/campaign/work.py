# SPDX-License-Identifier: BSD-3-Clause
"""One command's work on a campaign: what is not done yet, with a word on what is repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from diffrun.campaign import driver, pairs, recipe
from diffrun.campaign.crew import Crew, Here
from diffrun.campaign.progress import Progress
from diffrun.campaign.recipe import Recipe
from diffrun.campaign.standing import PAIRS, Standing, pairs_of, survey
from diffrun.claim import explained
from diffrun.display import Screen, counted, shown
from diffrun.errors import DiffrunError
from diffrun.request import Request
from diffrun.runtimes.supervise import Stopped

_MOST_NAMED = 20
#: Gathers the crew for what is to be done.
Gather = Callable[[Standing], AbstractContextManager[Crew]]


def done(common: Recipe, asked: Standing, gather: Gather, again: bool, screen: Screen) -> Standing:
    """Have the pairs of a campaign done, and wait; how they stand afterwards.

    Raises
    ------
    ConfigError
        If the folder holds a campaign with another recipe.
    OutputError, DiskFullError
        If another command works on it, or the ledger cannot be written.
    BatchError
        If the crew is lost.
    Stopped
        On a signal, after all has ended.
    """
    folder = asked.folder
    with begun(common, asked, again, screen) as now:
        if now.todo:
            with gather(now) as crew:
                _drive(common, now, crew, screen)
    ended = survey(folder, asked.pairs, before=now)
    screen.line(f"{shown(folder)}: {ended}")
    return ended


@contextlib.contextmanager
def begun(common: Recipe, asked: Standing, again: bool, screen: Screen) -> Iterator[Standing]:
    """Hold the campaign, with its recipe and its pairs written, and say what is to be done."""
    folder = asked.folder
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with driver.alone(folder):
        recipe.keep(common, folder)
        known = {pair.name: pair for pair in (pairs_of(folder) if (folder / PAIRS).exists() else ())}
        if any(pair.name not in known for pair in asked.pairs):
            pairs.write(folder / PAIRS, (known | {pair.name: pair for pair in asked.pairs}).values())
        now = survey(folder, asked.pairs, again, asked)
        screen.line(f"{shown(folder)}: {now}")
        _say_why(now, screen)
        yield now


def in_task(common: Recipe, folder: Path, chosen: Sequence[Request], at_once: int, limit: float) -> Standing:
    """Do the pairs of one task of a job array, which shares the campaign with its other tasks."""
    recipe.refuse_other(common, folder)
    screen = Screen()
    now = survey(folder, chosen)
    if now.todo:
        _drive(common, now, Here(at_once, limit), screen)
    ended = survey(folder, chosen, before=now)
    screen.line(f"{shown(folder)}: {ended}")
    return ended


def _say_why(now: Standing, screen: Screen) -> None:
    repeated = [each for each in now.todo if each.why]
    for each in repeated[:_MOST_NAMED]:
        screen.line(f"{each.pair.name} is done again: {each.why}")
    if len(repeated) > _MOST_NAMED:
        screen.line(f"... and {counted(len(repeated) - _MOST_NAMED, 'pair')} more")


def _drive(common: Recipe, now: Standing, crew: Crew, screen: Screen) -> None:
    progress = Progress(screen, len(now.todo))
    try:
        driver.drive(now.folder, common, now.todo, crew, progress.turn, progress.ended)
    except (Stopped, DiffrunError):
        progress.close()
        left = len(now.todo) - progress.done - sum(progress.failed.values())
        screen.line(f"stopped with {progress.done} done and {left} left; the same command goes on from there")
        raise
    finally:
        progress.close()
