# SPDX-License-Identifier: BSD-3-Clause
"""What two visits look like before the work, and which templates of the repository would do better.

    python -m diffrun.engine.survey REPO --science visit=230 --template visit=250

prints one JSON object. Headers and PSF models are read, no pixel planes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.smoothpsf import fwhm
from diffrun.errors import DataError, DiffrunError, RepositoryError, UsageError
from diffrun.files.afw.reader import ExposureSummary, read_summary
from diffrun.repository.dataid import DataId, parse_id
from diffrun.repository.gen2 import Repository

#: A template is called better only if it is sharper by more than the error of a PSF model.
_SHARPER = 0.98
_ENOUGH_OVERLAP = 0.5
_MOST_NAMED = 3
_MOST_READ = 200
#: Below this FWHM in pixels a matching kernel has too few samples (the Twinkles team kept to 2.6 and more).
_UNDERSAMPLED = 2.5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What the headers and the PSF of one visit say."""

    data_id: DataId
    summary: ExposureSummary
    fwhm_pixels: float
    pixel_scale: float

    @property
    def fwhm_arcsec(self) -> float:
        """FWHM of the PSF at the middle of the image, arcsec."""
        return self.fwhm_pixels * self.pixel_scale

    def as_dict(self) -> dict[str, Any]:
        """The part of the printed object that describes this visit."""
        return {
            **self.data_id.as_dict(),
            "fwhm_arcsec": round(self.fwhm_arcsec, 4),
            "fwhm_pixels": round(self.fwhm_pixels, 4),
            "mjd": self.summary.mjd if np.isfinite(self.summary.mjd) else None,
        }


def survey(root: Path, science: dict[str, int | str], template: dict[str, int | str]) -> dict[str, Any]:
    """Compare two visits of a repository, and look for better templates.

    Parameters
    ----------
    root : `pathlib.Path`
        Root of the Gen2 repository.
    science, template : `dict`
        What is known of each data id. The template takes raft and sensor from the science image, and its
        filter from the registry, where they are not given.

    Returns
    -------
    found : `dict`
        ``science``, ``template``, ``overlap_fraction`` (of the science image), ``better``, ``warnings``.

    Raises
    ------
    RepositoryError
        If a visit or its calexp is not there.
    DataError
        If a calexp cannot be read, or has no PSF or WCS.
    """
    repository = Repository.open(root)
    science_id, warnings = _choose(repository, science)
    first = _look(repository, science_id)
    place: dict[str, int | str] = {"raft": science_id.raft, "sensor": science_id.sensor}
    template_id, _ = _choose(repository, {**place, **template})
    second = _look(repository, template_id)
    overlap = overlap_fraction(first.summary, second.summary)
    better, skipped = _better(repository, first, second)
    return {
        "science": first.as_dict(),
        "template": second.as_dict(),
        "overlap_fraction": round(overlap, 4),
        "better": better,
        "warnings": [*warnings, *_warnings(first, second, overlap), *skipped],
    }


def _choose(repository: Repository, known: dict[str, int | str]) -> tuple[DataId, list[str]]:
    """The one data id that these keys mean, the first with a calexp if there are several."""
    found = repository.select(**known)
    there = [data_id for data_id in found if repository.find("calexp", data_id)]
    if not there:
        if found[0] not in repository.select(visit=found[0].visit):
            raise RepositoryError(repository.explain(known))
        repository.require("calexp", found[0])
    visits = sorted({data_id.visit for data_id in there})
    if len(visits) > 1:
        raise UsageError(f"{known} names {len(visits)} visits, among them {visits[:4]}", "give visit=NUMBER")
    if len(there) > 1:
        return there[0], [f"visit {visits[0]} has {len(there)} sensors; this looks at {there[0].detector}"]
    return there[0], []


def _look(repository: Repository, data_id: DataId) -> Look:
    path = repository.require("calexp", data_id)
    summary = read_summary(path)
    if summary.psf is None or summary.wcs is None:
        part = "PSF" if summary.psf is None else "WCS"
        raise DataError(f"{path} has no {part}", "process the visit again, or choose another")
    x, y = _middle(summary)
    ra, dec = summary.wcs.pixel_to_sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    east, north = (ra[1:] - ra[0]) * np.cos(np.radians(dec[0])), dec[1:] - dec[0]
    scale = 3600 * np.sqrt(abs(east[0] * north[1] - east[1] * north[0]))
    return Look(data_id, summary, fwhm(summary.psf, x, y), float(scale))


def _middle(summary: ExposureSummary) -> tuple[float, float]:
    (ny, nx), (x0, y0) = summary.shape, summary.xy0
    return x0 + (nx - 1) / 2, y0 + (ny - 1) / 2


def _corners(summary: ExposureSummary) -> Array:
    """Outer corners in parent pixels, counter-clockwise, (4, 2)."""
    (ny, nx), (x0, y0) = summary.shape, summary.xy0
    box = np.array([(0, 0), (nx, 0), (nx, ny), (0, ny)], float)
    return np.asarray(box + np.array([x0 - 0.5, y0 - 0.5]))


def overlap_fraction(science: ExposureSummary, template: ExposureSummary) -> float:
    """The fraction of the science image that the template covers, from the corners of both.

    The template's corners are carried into the science pixels and the polygon is clipped to the image
    (Sutherland and Hodgman 1974, CACM 17, 32).
    """
    ra, dec = template.wcs.pixel_to_sky(*_corners(template).T)
    centre = np.array([np.array([c]) for c in _middle(science)])
    if _separation(ra, dec, *science.wcs.pixel_to_sky(*centre)).min() > 45.0:
        return 0.0
    polygon = np.column_stack(science.wcs.sky_to_pixel(ra, dec))
    frame = _corners(science)
    for start, end in zip(frame, np.roll(frame, -1, axis=0), strict=True):
        polygon = _clip(polygon, start, end)
    return float(_area(polygon) / _area(frame))


def _separation(ra: Array, dec: Array, ra0: Array, dec0: Array) -> Array:
    """Angle on the sky in degrees, by the haversine."""
    a, d, a0, d0 = (np.radians(angle) for angle in (ra, dec, ra0, dec0))
    h = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(h))))


def _clip(polygon: Array, start: Array, end: Array) -> Array:
    """The part of a polygon left of the line from ``start`` to ``end``."""
    if not len(polygon):
        return polygon
    edge = end - start
    side = edge[0] * (polygon[:, 1] - start[1]) - edge[1] * (polygon[:, 0] - start[0])
    kept = []
    for i in range(len(polygon)):
        before, here = i - 1, i
        if side[before] * side[here] < 0:
            t = side[before] / (side[before] - side[here])
            kept.append(polygon[before] + t * (polygon[here] - polygon[before]))
        if side[here] >= 0:
            kept.append(polygon[here])
    return np.array(kept).reshape(-1, 2)


def _area(polygon: Array) -> float:
    """Area of a polygon by the shoelace formula."""
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _better(repository: Repository, science: Look, template: Look) -> tuple[list[dict[str, Any]], list[str]]:
    """Templates in the science band that are sharper, sharpest first; and what could not be looked at."""
    same_band = science.data_id.filter == template.data_id.filter
    limit = template.fwhm_arcsec if same_band else max(template.fwhm_arcsec, science.fwhm_arcsec)
    known: dict[str, int | str] = {key: getattr(science.data_id, key) for key in ("filter", "raft", "sensor")}
    taken = {science.data_id.visit, template.data_id.visit}
    candidates = [data_id for data_id in repository.select(**known) if data_id.visit not in taken]
    candidates.sort(key=lambda data_id: abs(data_id.visit - science.data_id.visit))
    skipped = []
    if len(candidates) > _MOST_READ:
        skipped.append(f"only {_MOST_READ} of {len(candidates)} possible templates were looked at")
    found = []
    for data_id in candidates[:_MOST_READ]:
        if not repository.find("calexp", data_id):
            continue
        try:
            look = _look(repository, data_id)
        except DataError as error:
            skipped.append(f"visit {data_id.visit} was not looked at: {error}")
            continue
        overlap = overlap_fraction(science.summary, look.summary)
        if look.fwhm_arcsec < _SHARPER * limit and overlap >= _ENOUGH_OVERLAP:
            found.append((look.fwhm_arcsec, data_id.visit, overlap))
    named = [
        {
            "visit": visit,
            "filter": science.data_id.filter,
            "fwhm_arcsec": round(width, 4),
            "overlap_fraction": round(overlap, 4),
        }
        for width, visit, overlap in sorted(found)[:_MOST_NAMED]
    ]
    return named, skipped


def _warnings(science: Look, template: Look, overlap: float) -> list[str]:
    """What a careful observer would say of this pair, one line each."""
    lines = []
    if science.data_id.filter != template.data_id.filter:
        lines.append(
            f"the bands differ: science {science.data_id.filter}, template {template.data_id.filter}; "
            "constant stars of any colour will not cancel"
        )
    if template.fwhm_arcsec > science.fwhm_arcsec:
        lines.append(
            f"the template has the larger PSF: {template.fwhm_arcsec:.2f} against "
            f"{science.fwhm_arcsec:.2f} arcsec"
        )
    if overlap < _ENOUGH_OVERLAP:
        lines.append(f"the template covers {100 * overlap:.0f} % of the science image")
    for name, look in (("science image", science), ("template", template)):
        if look.fwhm_pixels < _UNDERSAMPLED:
            lines.append(f"the {name} is undersampled: FWHM {look.fwhm_pixels:.2f} px")
    return lines


def parse_keys(typed: Sequence[str]) -> dict[str, int | str]:
    """``["visit=230", "raft=R22"]`` -> what is known of a data id.

    Raises
    ------
    UsageError
        If a word is not ``key=value``, or the key or value is not one of a data id.
    """
    for word in typed:
        if "=" not in word:
            raise UsageError(f"{word!r} is not in the form key=value", "write visit=230")
    return parse_id((key, value) for key, _, value in (word.partition("=") for word in typed))


def main(argv: Sequence[str] | None = None) -> int:
    """The program: one JSON object on standard output, or one line on standard error and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.survey", description=__doc__)
    parser.add_argument("repo", type=Path, metavar="REPO")
    parser.add_argument("--science", nargs="+", required=True, metavar="KEY=VALUE")
    parser.add_argument("--template", nargs="+", required=True, metavar="KEY=VALUE")
    options = parser.parse_args(argv)
    try:
        found = survey(options.repo, parse_keys(options.science), parse_keys(options.template))
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
