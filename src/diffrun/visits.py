# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun visits``: what a repository holds, and which visit is the best template of each."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.answers import asked
from diffrun.display import Screen, clean, counted
from diffrun.errors import DiffrunError
from diffrun.runtimes import VISITS, Job, local

#: Columns of the CSV: the keys of a row that hold one value each.
_COLUMNS = (
    "visit",
    "filter",
    "raft",
    "sensor",
    "sensors",
    "mjd",
    "fwhm_arcsec",
    "fwhm_pixels",
    "pixel_scale",
    "depth_mag",
    "ra",
    "dec",
    "best",
)
_WITH = ("overlap_fraction", "pair")


@dataclass(frozen=True)
class Listing:
    """The visits of a repository.

    Attributes
    ----------
    rows : `list` [`dict`]
        In the order of their numbers: ``visit``, ``filter``, ``raft``, ``sensor`` that was looked at of so
        many ``sensors``, ``fwhm_arcsec``, ``depth_mag``, ``mjd``, ``centre``, ``corners``, ``best`` and
        ``why``; with a companion ``overlap_fraction`` and ``pair``.
    skipped : `list` [`str`]
        What could not be looked at, and why.
    companion : `int`, optional
    """

    rows: list[dict[str, Any]]
    skipped: list[str]
    companion: int | None = None

    @property
    def best(self) -> dict[int, int]:
        """Visit -> its best template."""
        return {int(row["visit"]): int(row["best"]) for row in self.rows if row.get("best") is not None}

    @property
    def without(self) -> dict[int, str]:
        """Visit -> why it has no template."""
        return {int(row["visit"]): str(row.get("why")) for row in self.rows if row.get("best") is None}

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"visits": self.rows, "skipped": self.skipped}

    def csv(self) -> str:
        """One line for each visit, under a line of names; an empty field where nothing is known."""
        columns = _COLUMNS + (_WITH if self.companion is not None else ())
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        for row in self.rows:
            ra, dec = row["centre"] or (None, None)
            values = {**row, "ra": ra, "dec": dec}
            table.writerow(["" if values.get(name) is None else values[name] for name in columns])
        return text.getvalue()

    def show(self, screen: Screen) -> None:
        """The table for people, and what follows from it."""
        head = ["visit", "band", "sensors", "seeing", "depth", "MJD", "best template"]
        head += ["overlap", f"as template of {self.companion}"] if self.companion is not None else []
        table = [head, *(self._line(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        for line in table:
            screen.line(
                "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
            )
        for text in self.skipped:
            screen.fact("note", text)

    def _line(self, row: dict[str, Any]) -> list[str]:
        found = [
            str(row["visit"]),
            str(row["filter"]),
            str(row["sensors"]),
            _number(row["fwhm_arcsec"], 2),
            _number(row["depth_mag"], 2),
            _number(row["mjd"], 4),
            str(row["best"]) if row["best"] is not None else f"none: {row['why']}",
        ]
        if self.companion is not None:
            part = row["overlap_fraction"]
            found += ["-" if part is None else f"{100 * part:.0f} %", str(row["pair"])]
        return [clean(text) for text in found]


def listing(
    repository: Path,
    screen: Screen,
    filter: str | None = None,
    raft: str | None = None,
    sensor: str | None = None,
    companion: int | None = None,
    min_coverage: str | None = None,
) -> Listing:
    """List the visits of a repository, each with its best template.

    Parameters
    ----------
    repository : `pathlib.Path`
    screen : `Screen`
    filter, raft, sensor : `str`, optional
        In the registry's form.
    companion : `int`, optional
        A science visit: each visit is judged as its template.
    min_coverage : `str`, optional
        Least part of a science image that a template covers.

    Raises
    ------
    RepositoryError
        If the repository, or anything of the kind in it, is not there.
    """
    words = [str(repository)]
    given = {"filter": filter, "raft": raft, "sensor": sensor, "min-coverage": min_coverage}
    words += [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
    words += ["--with", str(companion)] if companion is not None else []
    with screen.progress() as progress:
        command = local().command(Job(VISITS, tuple(words), (repository,)))
        found = asked(command, "the list of visits", lambda: progress.running("look at the visits"))
    try:
        return Listing(list(found["visits"]), [str(text) for text in found["skipped"]], companion)
    except (KeyError, TypeError):
        raise DiffrunError("the program that lists visits gave no list") from None


def closing(found: Listing) -> str:
    """The last line: how many, and what to do with them."""
    number = counted(len(found.rows), "visit")
    mine = found.companion
    if mine is not None and mine in found.best:
        return f"{number}; the best template: diffrun --science {mine} --template {found.best[mine]}"
    return f"{number}, {len(found.best)} with a template"


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
