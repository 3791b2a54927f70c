# SPDX-License-Identifier: BSD-3-Clause
"""The Twinkles regression: run the real ``diffrun`` on the subset and hold it to its truth.

    .venv/bin/python ci/regression.py [PAIR ...]

Each number of each pair must lie within the bounds of ``expected.yaml``; one table is printed, and the exit
status is the number of pairs with a number outside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Grid
from scipy.ndimage import distance_transform_edt

from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure, read_summary
from diffrun.repository.gen2 import Repository
from diffrun.twinkles import truth_path, unpack

EXPECTED = Path(__file__).with_name("expected.yaml")
#: A detection is that of a true change within so many pixels; a blend reaches so many times the FWHM.
MATCH_RADIUS = 3.0
BLEND_REACH = 2.5
#: How far a saturated star spoils its surroundings, pixels.
SATURATED_REACH = 40.0
DEFECTS = ("BAD", "SAT", "SAT_TEMPLATE", "EDGE", "NO_DATA", "CR", "INTRP")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Changes:
    """What truly changed between the two visits, in parent pixels and counts of the science visit.

    ``snr`` is that of the ideal matched filter, |F| sqrt(sum P^2 / V), with P the PSF of the difference and V
    its variance plane at the place of the change, its own photon noise included.
    """

    x: Array
    y: Array
    flux: Array
    snr: Array
    clean: NDArray[np.bool_]


def run(words: list[str], science: int, template: int, folder: Path) -> tuple[dict[str, Any], float]:
    """Run ``diffrun`` (and its options) and return what it prints for machines, with the seconds it took."""
    pair = ["--science", str(science), "--template", str(template)]
    words = [*words, *pair, "--output", str(folder), "--json"]
    before = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout), time.monotonic() - before


def changes(summary: dict[str, Any], difference: Exposure, root: Path, truth: Table) -> Changes:
    """True changes on this difference: objects that stay where they are, and both ends of those that move."""
    science, template = (
        truth[truth["visit"] == summary[side]["visit"]] for side in ("science", "template")
    )  # both hold every object once, in the same order
    science.sort("object")
    template.sort("object")
    scale = flux_scale(root, summary)
    here = difference.wcs.sky_to_pixel(np.asarray(science["ra"]), np.asarray(science["dec"]))
    there = difference.wcs.sky_to_pixel(np.asarray(template["ra"]), np.asarray(template["dec"]))
    new, old = np.asarray(science["flux"], float), np.asarray(template["flux"], float) * scale
    moved = np.hypot(here[0] - there[0], here[1] - there[1]) > 1.0
    x = np.concatenate([here[0], there[0][moved]])
    y = np.concatenate([here[1], there[1][moved]])
    flux = np.concatenate([np.where(moved, new, new - old), -old[moved]])
    inside = on_image(x, y, difference, 25)
    x, y, flux = x[inside], y[inside], flux[inside]
    snr = np.array([ideal_snr(*one, difference) for one in zip(x, y, flux, strict=True)])
    return Changes(x, y, flux, snr, is_clean(x, y, flux, difference))


def flux_scale(root: Path, summary: dict[str, Any]) -> float:
    """Counts of the science visit for one of the template: by the zero points, across bands by the kernel."""
    if summary["science"]["filter"] != summary["template"]["filter"]:
        total = float(summary["kernel"]["sum"])
        return total if summary["convolved"] == "template" else 1 / total
    repository = Repository.open(root)
    zero = {}
    for side in ("science", "template"):
        (data_id,) = repository.select(visit=summary[side]["visit"])
        zero[side] = read_summary(repository.require("calexp", data_id)).flux_mag0
    return float(zero["science"] / zero["template"])


def on_image(x: Array, y: Array, image: Exposure, border: int) -> NDArray[np.bool_]:
    """Which parent positions are at least ``border`` pixels inside the image."""
    (ny, nx), (x0, y0) = image.shape, image.xy0
    column, row = x - x0, y - y0
    return (column >= border) & (column < nx - border) & (row >= border) & (row < ny - border)


def ideal_snr(x: float, y: float, flux: float, difference: Exposure) -> float:
    """S/N of the ideal matched filter at a place."""
    psf = difference.psf.kernel_image(x, y)
    half = psf.shape[0] // 2
    column, row = round(x) - difference.xy0[0], round(y) - difference.xy0[1]
    variance = difference.variance[row - half : row + half + 1, column - half : column + half + 1]
    weight = np.where(np.isfinite(variance) & (variance > 0), psf**2 / variance, 0.0)
    return float(abs(flux) * np.sqrt(weight.sum()))


def is_clean(x: Array, y: Array, flux: Array, difference: Exposure) -> NDArray[np.bool_]:
    """Off every defect by a FWHM, and apart from every other change of a tenth of its flux."""
    width = fwhm(difference)
    distance = distance_transform_edt(~(difference.has(*DEFECTS) | ~np.isfinite(difference.image)))
    column, row = (np.rint(c - o).astype(int) for c, o in zip((x, y), difference.xy0, strict=True))
    clean = distance[row, column] > width
    for i in range(len(x)):
        near = np.hypot(x - x[i], y - y[i]) < BLEND_REACH * width
        near[i] = False
        clean[i] &= not (near & (np.abs(flux) > 0.1 * abs(flux[i]))).any()
    return clean


def fwhm(difference: Exposure) -> float:
    """FWHM of the PSF from its effective area, that of a Gaussian: 4 pi sigma^2."""
    psf = difference.psf.kernel_image(*difference.psf.average_position)
    return float(2.3548 * np.sqrt(psf.sum() ** 2 / (psf**2).sum() / (4 * np.pi)))


def measure(summary: dict[str, Any], seconds: float, root: Path, truth: Table) -> dict[str, float]:
    """Every number that ``expected.yaml`` may bound."""
    difference = read_exposure(Path(summary["files"]["difference"]))
    sources = read_catalog(Path(summary["files"]["catalogue"]))
    true = changes(summary, difference, root, truth)
    found = detections(true, sources)
    faint = true.clean & (true.snr >= 6) & (true.snr < 8)
    return {
        "sources": float(len(sources)),
        "complete_8": share(found >= 0, true.clean & (true.snr >= 8)),
        "complete_6_8": share(found >= 0, faint),
        "found_6_8": float((faint & (found >= 0)).sum()),
        "true_6_8": float(faint.sum()),
        "unmatched": float(unmatched(true, sources, difference)),
        **fluxes(true, found, sources),
        "noise_ratio": summary["noise_ratio"],
        "lag1": summary["lag1_correlation"],
        "chi2": summary["residual_chi2"],
        "seconds": seconds,
    }


def positions(sources: Catalog) -> tuple[Array, Array]:
    """Centroids of the DIA sources."""
    return np.asarray(sources["slot_Centroid_x"], float), np.asarray(sources["slot_Centroid_y"], float)


def detections(true: Changes, sources: Catalog) -> NDArray[np.int64]:
    """Row of the nearest DIA source of each change, -1 where there is none within reach."""
    x, y = positions(sources)
    found = np.full(len(true.x), -1)
    for i, place in enumerate(zip(true.x, true.y, strict=True)):
        distance = np.hypot(x - place[0], y - place[1])
        if len(distance) and np.nanmin(distance) < MATCH_RADIUS:
            found[i] = int(np.nanargmin(distance))
    return found


def share(found: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    """The fraction found, 1 where there is nothing to find."""
    return float(found[among].mean()) if among.any() else 1.0


def unmatched(true: Changes, sources: Catalog, difference: Exposure) -> int:
    """Detections that are no change, nor within reach of a saturated star or another change's blend."""
    x, y = positions(sources)
    saturated = difference.has("SAT", "SAT_TEMPLATE")
    far = distance_transform_edt(~saturated) if saturated.any() else np.full(difference.shape, np.inf)
    real = true.snr > 3
    reach = BLEND_REACH * fwhm(difference)
    count = 0
    for px, py in zip(x, y, strict=True):
        column, row = round(px) - difference.xy0[0], round(py) - difference.xy0[1]
        near = (np.hypot(true.x[real] - px, true.y[real] - py) < reach).any()
        ny, nx = difference.shape
        spoiled = far[min(max(row, 0), ny - 1), min(max(column, 0), nx - 1)] < SATURATED_REACH
        count += not near and not spoiled
    return count


def matched_fluxes(true: Changes, found: NDArray[np.int64], sources: Catalog) -> tuple[Array, Array, Array]:
    """Flux, its error and the true flux of clean changes above S/N 8."""
    use = true.clean & (found >= 0) & (true.snr >= 8)
    flux, error = (np.asarray(column, float)[found[use]] for column in sources.flux("slot_PsfFlux"))
    return flux, error, true.flux[use]


def fluxes(true: Changes, found: NDArray[np.int64], sources: Catalog) -> dict[str, float]:
    """How true the PSF fluxes of clean changes above S/N 8 are."""
    flux, error, expected = matched_fluxes(true, found, sources)
    weight = 1 / error**2
    bias = float((weight * flux * expected).sum() / (weight * expected**2).sum() - 1)
    return {
        "flux_bias": bias,
        "pull_std": float(np.std((flux - expected) / error)),
        "measured": float(len(flux)),
    }


def show(results: dict[str, dict[str, float]], expected: dict[str, dict[str, list[float]]]) -> int:
    """One table of all numbers; the count of pairs with one out of bounds."""
    grid = Grid("number", *results, title="Twinkles regression: value (bounds)")
    wrong = set()
    for name in next(iter(results.values())):
        cells = []
        for pair, numbers in results.items():
            value, bounds = numbers[name], expected[pair].get(name)
            good = bounds is None or (value is not None and bounds[0] <= value <= bounds[1])
            wrong |= set() if good else {pair}
            text = "none" if value is None else f"{value:.4g}"
            text += f" ({bounds[0]:g} to {bounds[1]:g})" if bounds else ""
            cells.append(text if good else f"[bold red]{text} WRONG[/]")
        grid.add_row(name, *cells)
    Console(width=150).print(grid)
    return len(wrong)


def main() -> int:
    """Run the named pairs, or all."""
    expected = yaml.safe_load(EXPECTED.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", nargs="*", help=f"of {', '.join(expected)}")
    parser.add_argument(
        "--diffrun", default=str(Path(sys.executable).with_name("diffrun")), help="the command"
    )
    options = parser.parse_args()
    results, root = {}, unpack()
    truth = Table.read(truth_path(), format="ascii.ecsv")
    with tempfile.TemporaryDirectory(prefix="diffrun-regression-") as folder:
        for pair in options.pair or expected:
            science, template = map(int, pair.split("-"))
            summary, seconds = run([options.diffrun], science, template, Path(folder) / pair)
            results[pair] = measure(summary, seconds, root, truth)
    return show(results, expected)


if __name__ == "__main__":
    sys.exit(main())
