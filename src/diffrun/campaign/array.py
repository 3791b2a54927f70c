# SPDX-License-Identifier: BSD-3-Clause
"""A campaign as one job array of Slurm: each task does a list of pairs, and writes into the same ledger.

There is one array at a time, so that its limit of tasks at a time is the limit of the whole campaign; the
lists are made as long as MaxArraySize wants it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import diffrun
from diffrun import plan
from diffrun.batch import resources, script, slurm
from diffrun.batch.resources import Resources
from diffrun.campaign import pairs
from diffrun.campaign.recipe import Recipe
from diffrun.campaign.standing import Standing
from diffrun.errors import BatchError, DiffrunError, UsageError
from diffrun.files.atomic import write_bytes
from diffrun.request import Request

FOLDER = "array"
#: Pairs that are planned beforehand, until one can be.
_TRIED = 3


def submit(
    common: Recipe,
    standing: Standing,
    wanted: Resources,
    workers: int,
    limit: int,
    chunk: int,
    at_a_time: int | None,
) -> tuple[str, Path]:
    """Write the lists and the script, and submit them.

    Parameters
    ----------
    common : `Recipe`
    standing : `Standing`
        Its ``todo`` is what the array does.
    wanted : `Resources`
        Of one task.
    workers : `int`
        Pairs that one task does at a time, on as many processors.
    limit : `int`
        Seconds that one pair may take.
    chunk : `int`
        Pairs of one task, more if there would be too many tasks.
    at_a_time : `int`, optional
        Tasks that run at the same time.

    Returns
    -------
    job : `str`
    path : `pathlib.Path`
        The script.

    Raises
    ------
    BatchError
        If there is no Slurm, it refuses, or an array of this campaign waits or runs, which is named.
    """
    base = standing.folder / FOLDER / standing.folder.name
    if not slurm.available():
        raise BatchError("there is no sbatch here", "run this where Slurm is, or without --executor array")
    job = slurm.active(base.name, base.parent)
    if job is not None:
        raise BatchError(
            f"job {job} of {standing.folder} waits or runs: nothing more was submitted",
            "see: diffrun campaign status, squeue",
        )
    todo = [each.pair for each in standing.todo]
    chunk = max(chunk, -(-len(todo) // slurm.largest_array()))
    lists = _lists(base.parent, todo, chunk)
    tasks = -(-len(todo) // chunk)
    most = f"%{at_a_time}" if at_a_time else ""
    asked = [*script.resources_lines(wanted, base, workers), f"--array=0-{tasks - 1}{most}"]
    asked += _shifter(common, todo, wanted)
    words = ["campaign", "task", str(lists), "--workers", str(workers), "--pair-time", str(limit)]
    words += ["--output", str(standing.folder)]
    notes = (f"# diffrun {diffrun.__version__}, {len(todo)} pairs in {tasks} tasks; {lists.name} has them",)
    text = script.page(notes, asked, [*words, *common.words], common.variables())
    path = script.path(base)
    write_bytes(path, text.encode("utf-8", "surrogateescape"))
    return _submitted(path, base), path


def _submitted(path: Path, base: Path) -> str:
    """The job of a script; what refuses it says whether Slurm has one all the same."""
    try:
        return slurm.submit(path)
    except BatchError as error:
        job = slurm.active(base.name, base.parent)  # an answer may be lost on its way
        taken = f"job {job} was submitted all the same" if job else "nothing was submitted"
        raise BatchError(f"{error.message}; {taken}", error.remedy) from None


def _shifter(common: Recipe, todo: list[Request], wanted: Resources) -> list[str]:
    """The lines of one job for the first pair that can be planned: all have its image and its repository."""
    for pair in todo[:_TRIED]:
        with contextlib.suppress(DiffrunError):  # it will say why in its turn
            return script.shifter_lines(plan.make(pair, common.settings), wanted)
    return []


def _lists(place: Path, todo: list[Request], chunk: int) -> Path:
    """A new folder with one file of pairs for each task."""
    place.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        lists = place / f"lists-{number}"
        try:
            lists.mkdir()
            break
        except FileExistsError:
            continue
    for task, first in enumerate(range(0, len(todo), chunk)):
        pairs.write(lists / f"{task}.csv", todo[first : first + chunk])
    return lists


def of_task(lists: Path) -> tuple[Request, ...]:
    """The pairs of the task that this process is; `UsageError` if it is none."""
    task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if not task.isdecimal():
        raise UsageError(
            "this is no task of a job array", "submit one: diffrun campaign run --executor array"
        )
    return pairs.read(lists / f"{int(task)}.csv")


def wanted(common: Recipe, typed: Mapping[str, str | None]) -> Resources:
    """What one task asks for; `UsageError` for what the site leaves to its user and nobody gave."""
    site = common.settings.site.value
    found = resources.resolve(site, typed)
    resources.require(site, found)
    return found
