# SPDX-License-Identifier: BSD-3-Clause
"""What a repository holds, and which visit is the best template of each.

    python -m diffrun.engine.visits REPO --filter r --with 230

prints one JSON object. Of each visit one sensor is looked at: its headers, its PSF model and a few rows of
its variance plane.

The best template of a visit is, of the other exposures in its band that cover enough of it and are deep
enough at equal seeing, the one with the sharpest seeing; of equals the deeper, then the earlier.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.glance import Look, look, told_depth
from diffrun.engine.overlap import footprint, overlap_fraction, vectors
from diffrun.errors import DataError, DiffrunError
from diffrun.repository.dataid import DataId, parse_id, short_name
from diffrun.repository.gen2 import Repository

#: Least part of a visit that its template covers, and by how many magnitudes that may be the shallower at
#: equal seeing.
COVERAGE, SHALLOWER = 0.5, 0.3
#: Exposures less than this apart, days, are the same.
_SAME_TIME = 1e-5

Keys = dict[str, int | str]


@dataclass(frozen=True)
class Row:
    """One visit: what one of its sensors shows.

    Attributes
    ----------
    look : `Look`
    sensors : `int`
        How many have a calexp.
    depth : `float`
        AB magnitude of a point source of S/N 5 by the variance plane; NaN where that cannot be told.
    place : `numpy.ndarray`, (3,)
        The middle of the image as a unit vector.
    radius : `float`
        From there to its furthest corner, radians. Of no meaning, as the place, where there is no WCS.
    """

    look: Look
    sensors: int
    depth: float
    place: NDArray[np.float64]
    radius: float

    @property
    def visit(self) -> int:
        """Number of the visit."""
        return self.look.data_id.visit

    @property
    def at_equal_seeing(self) -> float:
        """What the depth would be in a seeing of 1 arcsec."""
        return float(self.depth + 2.5 * np.log10(self.look.fwhm_arcsec))

    def shallower(self, science: Row) -> float:
        """By how many magnitudes than another at equal seeing; NaN where one of both does not tell."""
        return science.at_equal_seeing - self.at_equal_seeing

    @property
    def order(self) -> tuple[float, float, int]:
        """The better a template, the earlier."""
        return self.look.fwhm_arcsec, -self.depth if np.isfinite(self.depth) else np.inf, self.visit

    def as_dict(self) -> dict[str, Any]:
        """The part of the printed object that describes this visit."""
        nowhere = {"centre": None, "corners": None}
        found = self.look.as_dict() | (footprint(self.look.summary) if self.look.has_wcs else nowhere)
        depth = round(self.depth, 3) if np.isfinite(self.depth) else None
        return {**found, "sensors": self.sensors, "depth_mag": depth}


def listing(
    repository: Repository, known: Keys, companion: int | None = None, coverage: float = COVERAGE
) -> dict[str, Any]:
    """List the visits of a repository.

    Parameters
    ----------
    repository : `Repository`
    known : `dict`
        What of ``filter``, ``raft`` and ``sensor`` is asked for.
    companion : `int`, optional
        A science visit: each visit is judged as its template.
    coverage : `float`
        Least part of a science image that a good template covers.

    Returns
    -------
    found : `dict`
        ``visits``, in the order of their numbers, each with its ``best`` template or ``why`` it has none, and
        with a companion ``overlap_fraction`` and ``pair``; ``skipped``, what could not be looked at.

    Raises
    ------
    RepositoryError
        If nothing of the kind is there.
    """
    rows, skipped = _rows(repository, _chosen(repository, known, companion))
    found = []
    for row in rows:
        template, why = best(row, rows, coverage)
        found.append({**row.as_dict(), "best": template.visit if template else None, "why": why})
    if companion is not None:
        science = next((row for row in rows if row.visit == companion), None)
        if science is None:
            raise DataError(next(text for text in skipped if text.startswith(f"visit {companion} ")))
        template = best(science, rows, coverage)[0]
        for each, row in zip(found, rows, strict=True):
            both = science.look.has_wcs and row.look.has_wcs
            part = overlap_fraction(science.look.summary, row.look.summary) if both else np.nan
            each["overlap_fraction"] = round(part, 4) if both else None
            each["pair"] = _pair(science, row, part, coverage, row is template)
    kept = [each for each in found if each["filter"] == known.get("filter", each["filter"])]
    return {"visits": kept, "skipped": skipped}


def best(science: Row, rows: Iterable[Row], coverage: float) -> tuple[Row | None, str]:
    """The best template of a visit by the rule above; `None`, and why, if there is none."""
    if not science.look.has_wcs:
        return None, "it has no WCS, so that what covers it is not known"
    mine = science.look.data_id
    others = [
        row
        for row in rows
        if not _same_exposure(science, row)
        and row.look.has_wcs
        and (row.look.data_id.filter, row.look.data_id.raft, row.look.data_id.sensor)
        == (mine.filter, mine.raft, mine.sensor)
    ]
    if not others:
        return None, f"no other visit has {short_name(mine.raft, mine.sensor)} in {mine.filter}"
    deep = [row for row in others if not row.shallower(science) > SHALLOWER]
    near = [row for row in deep if _may_overlap(science, row)]
    for row in sorted(near, key=lambda row: row.order):
        if overlap_fraction(science.look.summary, row.look.summary) >= coverage:
            return row, ""
    shallow = "" if len(deep) == len(others) else f"; {len(others) - len(deep)} more are too shallow"
    return None, f"{len(deep)} others in {mine.filter}, none covers {100 * coverage:.0f} % of it{shallow}"


def _same_exposure(one: Row, other: Row) -> bool:
    """Whether two visits are one: by their number, or by their time, as where sources were planted in one."""
    apart = abs(one.look.summary.mjd - other.look.summary.mjd)
    return one.visit == other.visit or apart < _SAME_TIME


def _may_overlap(one: Row, other: Row) -> bool:
    """Whether the circles about two images touch: quick, and never wrongly no."""
    distance = 2 * np.arcsin(min(float(np.linalg.norm(one.place - other.place)) / 2, 1.0))
    return bool(distance < one.radius + other.radius)


def _pair(science: Row, row: Row, part: float, coverage: float, chosen: bool) -> str:
    """What the visit is as a template of another: best, good, or why not."""
    broader = row.look.fwhm_arcsec > science.look.fwhm_arcsec
    if row is science:
        return "itself"
    if _same_exposure(science, row):
        return "the same exposure"
    if row.look.data_id.filter != science.look.data_id.filter:
        return f"band {row.look.data_id.filter}"
    if np.isnan(part):
        return f"visit {(row if science.look.has_wcs else science).visit} has no WCS"
    if part < coverage:
        return f"covers {100 * part:.0f} %"
    if row.shallower(science) > SHALLOWER:
        return f"shallower by {row.shallower(science):.1f} mag"
    if chosen:
        return "best, though with the larger PSF" if broader else "best"
    return "larger PSF" if broader else "good"


def _chosen(repository: Repository, known: Keys, companion: int | None) -> list[tuple[DataId, int]]:
    """One data id of each visit with how many there are: of the sensor that most visits have.

    With a companion, of visits in any band that have a sensor of the companion's.
    """
    place: Keys = known if companion is None else {key: known[key] for key in known if key != "filter"}
    there = [each for each in repository.select(**place) if repository.find("calexp", each)]
    frequent = Counter((each.raft, each.sensor) for each in there)

    def first(ids: Iterable[DataId]) -> DataId:
        return min(ids, key=lambda one: (-frequent[one.raft, one.sensor], one))

    by_visit: dict[int, list[DataId]] = {}
    for each in there:
        by_visit.setdefault(each.visit, []).append(each)
    if companion is None:
        return [(first(ids), len(ids)) for _, ids in sorted(by_visit.items())]
    mine = first(by_visit.get(companion) or _missing(repository, companion, place))
    found = [(each, len(by_visit[each.visit])) for each in there]
    return [(each, n) for each, n in found if (each.raft, each.sensor) == (mine.raft, mine.sensor)]


def _missing(repository: Repository, visit: int, place: Keys) -> list[DataId]:
    """Raise the `RepositoryError` that says what a visit lacks."""
    found = repository.select(visit=visit, **place)
    repository.require("calexp", found[0])
    return found


def _rows(repository: Repository, chosen: Iterable[tuple[DataId, int]]) -> tuple[list[Row], list[str]]:
    rows, skipped = [], []
    for data_id, sensors in chosen:
        try:
            seen = look(repository, data_id)
        except DataError as error:
            skipped.append(f"visit {data_id.visit} was not looked at: {error}")
            continue
        try:
            depth = told_depth(seen)
        except DataError:  # its headers and PSF are good all the same
            depth = np.nan
        spot = footprint(seen.summary)
        centre, *rim = vectors(*np.array([spot["centre"], *spot["corners"]]).T)
        chord = np.linalg.norm(rim - centre, axis=1).max()
        rows.append(Row(seen, sensors, depth, centre, float(2 * np.arcsin(min(chord / 2, 1.0)))))
    return rows, skipped


def main(argv: Sequence[str] | None = None) -> int:
    """The program: one JSON object on standard output, or one line on standard error and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.visits", description=__doc__)
    parser.add_argument("repo", type=Path, metavar="REPO")
    for key in ("filter", "raft", "sensor"):
        parser.add_argument(f"--{key}", metavar=key.upper())
    parser.add_argument("--with", dest="companion", type=int, metavar="VISIT")
    parser.add_argument("--min-coverage", type=float, default=COVERAGE, metavar="FRACTION")
    options = parser.parse_args(argv)
    given = [(key, getattr(options, key)) for key in ("filter", "raft", "sensor") if getattr(options, key)]
    try:
        known = parse_id(given)
        found = listing(Repository.open(options.repo), known, options.companion, options.min_coverage)
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
