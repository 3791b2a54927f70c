# SPDX-License-Identifier: BSD-3-Clause
"""Light curves of all that changed in a campaign, from the runs that are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from diffrun.campaign.report import FOLDER, Row, listed, tables
from diffrun.campaign.standing import Standing
from diffrun.errors import DataError, OutputError, UsageError
from diffrun.runtimes import LIGHTCURVES, Job, local, supervise

OBJECTS, CURVES = "objects.csv", "lightcurves.csv"


def write(
    standing: Standing,
    radius: float,
    known: Path | None,
    processes: int,
    on_note: Callable[[str], None],
) -> tuple[Path, Path]:
    """Write the table of objects and that of their light curves.

    Parameters
    ----------
    standing : `Standing`
    radius : `float`
        Of the association, arcsec.
    known : `pathlib.Path`, optional
        Table of places that are objects in any case.
    processes : `int`
    on_note : callable
        Told of what could not be read.

    Raises
    ------
    DataError
        If no pair is done.
    UsageError
        If the table of places is none.
    OutputError
        If the program that measures failed; the last that it said.
    """
    place = standing.folder / FOLDER
    _, runs, notes = tables(standing)
    for note in notes:
        on_note(note)
    if not runs:
        raise DataError(f"{standing.folder} has no pair with a catalogue", "see: diffrun campaign status")
    objects, curves = place / OBJECTS, place / CURVES
    said = [f"the light curves of {standing.folder} were not made"]
    with listed(place, [*runs, *failed(standing, runs[0]["folder"])]) as file:
        words = [str(file), str(objects), str(curves), "--radius", str(radius), "--processes", str(processes)]
        words += ["--places", str(known)] if known else []
        status, _ = supervise.ask(local().command(Job(LIGHTCURVES, tuple(words))), said.append)
    for line in said[1 : len(said) - bool(status)]:
        on_note(line)
    if status:
        raise (UsageError if status == UsageError.exit_code else OutputError)(said[-1])
    return objects, curves


def failed(standing: Standing, repository: str) -> Iterator[Row]:
    """The pairs that failed, by what was asked for: their objects were not measured."""
    for pair, entry in standing.failed:
        yield {
            "pair": pair.name, "visit": pair.science, "template": pair.template, "band": pair.filter,
            "template_band": pair.template_filter, "raft": pair.raft, "sensor": pair.sensor,
            "folder": repository, "cause": entry.cause,
        }  # fmt: skip
