# SPDX-License-Identifier: BSD-3-Clause
"""Real sky, written by the real stack: SDSS Stripe 82 in r, beside what the stack's own differencing finds.

The stack's figures are those of the README beside the data.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure, read_kernel

#: The stack: mean squared residual over variance at kernel stars, half of the 16 to 84 % range of the pull,
#: neighbour correlations, DIA sources that are neither dipole nor touch a defect.
STACK = {
    (4192, 6377): {"chi2": 1.172, "half_width": 0.9941, "lag": 0.0114, "clean": 11},
    (6377, 4192): {"chi2": 1.174, "half_width": 1.0048, "lag": 0.0554, "clean": 14},
}
UNUSED = ("BAD", "SAT", "SAT_TEMPLATE", "EDGE", "NO_DATA", "DETECTED", "DETECTED_NEGATIVE", "INTRP", "CR")


@dataclass(frozen=True)
class Run:
    """One finished run."""

    difference: Exposure
    sources: Catalog
    src: Catalog
    kernel_sum: float


@pytest.fixture(scope="module")
def run(shared_data, tmp_path_factory):
    """Runs a pair, once."""
    repo, done = shared_data / "stripe82_repo", {}

    def once(science, template):
        if (science, template) not in done:
            folder = tmp_path_factory.mktemp("run") / "run"
            words = [
                "--repo",
                repo,
                "--science",
                science,
                "--template",
                template,
                "--output",
                folder,
                "--json",
            ]
            out = subprocess.run(
                [sys.executable, "-c", "from diffrun.cli import main; main()", *map(str, words)],
                stdout=subprocess.PIPE,
                check=True,
            )
            files = {name: Path(path) for name, path in json.loads(out.stdout)["files"].items()}
            kernel = read_kernel(files["kernel"])
            done[science, template] = Run(
                read_exposure(files["difference"]),
                read_catalog(files["catalogue"]),
                read_catalog(repo / f"src/v{science}-fr/R22/S11.fits"),
                float(kernel.at(1050, 750).sum()),
            )
        return done[science, template]

    return once


BOTH = pytest.mark.parametrize("pair", list(STACK), ids=str)


def star_residuals(run):
    """Mean of difference² / variance within 6 pixels of each isolated star of S/N 10 to 500."""
    flux, error = run.src.flux("slot_PsfFlux")
    x, y = (np.asarray(run.src[f"slot_Centroid_{axis}"], float) for axis in "xy")
    star = (flux > 10 * error) & (flux < 500 * error)
    star &= np.asarray(run.src["base_ClassificationExtendedness_value"]) < 0.5
    star &= np.asarray(run.src["detect_isPrimary"])
    (x0, y0), (ny, nx) = run.difference.xy0, run.difference.shape
    offset_y, offset_x = np.mgrid[-6:7, -6:7]
    disc = np.hypot(offset_x, offset_y) <= 6
    unusable = run.difference.has("SAT", "SAT_TEMPLATE", "BAD", "NO_DATA", "EDGE")
    values = []
    for px, py in zip(x[star], y[star], strict=True):
        column, row = round(px - x0), round(py - y0)
        if not (25 < column < nx - 25 and 25 < row < ny - 25):
            continue
        window = np.s_[row - 6 : row + 7, column - 6 : column + 7]
        if unusable[window][disc].any() or np.sort(np.hypot(x - px, y - py))[1] < 13:
            continue
        values.append(np.mean((run.difference.image**2 / run.difference.variance)[window][disc]))
    return np.array(values)


@BOTH
def test_the_noise_is_no_worse_than_the_stacks(run, pair):
    difference = run(*pair).difference
    use = ~difference.has(*UNUSED)
    with np.errstate(invalid="ignore"):
        pull = difference.image / np.sqrt(difference.variance)
    low, middle, high = np.percentile(pull[use], [16, 50, 84])
    # The half width of a million pixels has an error of 0.001 itself.
    assert abs((high - low) / 2 - 1) <= max(abs(STACK[pair]["half_width"] - 1), 0.006)
    assert abs(middle) < 0.005
    for a, b, both in (
        (pull[:, 1:], pull[:, :-1], use[:, 1:] & use[:, :-1]),
        (pull[1:], pull[:-1], use[1:] & use[:-1]),
    ):
        assert abs(np.corrcoef(a[both], b[both])[0, 1]) < STACK[pair]["lag"]


@BOTH
def test_stars_are_subtracted_as_well_as_by_the_stack(run, pair):
    residuals = star_residuals(run(*pair))
    assert len(residuals) >= 40
    assert np.median(residuals) <= STACK[pair]["chi2"]


@BOTH
def test_less_is_left_that_looks_real(run, pair):
    sources = run(*pair).sources
    real = ~np.asarray(sources["ip_diffim_DipoleFit_flag_classification"], bool)
    for defect in ("edge", "saturated", "interpolated"):
        real &= ~np.asarray(sources[f"base_PixelFlags_flag_{defect}"], bool)
    assert real.sum() <= STACK[pair]["clean"]


@pytest.mark.parametrize(("pair", "sign"), [((4192, 6377), -1), ((6377, 4192), 1)], ids=str)
def test_the_asteroid_is_found(run, pair, sign):
    """A moving object of S/N 19, in run 6377 only, at RA 351.68445, Dec +0.15174."""
    result = run(*pair)
    (x,), (y,) = result.difference.wcs.sky_to_pixel(np.array([351.68445]), np.array([0.15174]))
    distance = np.hypot(result.sources["slot_Centroid_x"] - x, result.sources["slot_Centroid_y"] - y)
    nearest = int(np.argmin(distance))
    assert distance[nearest] < 1
    assert result.sources["diffrun_snr"][nearest] * sign == pytest.approx(19, abs=2)


@BOTH
def test_the_kernel_sum_is_near_the_flux_ratio(run, pair):
    """4192 / 6377 is 1.0217 +- 0.0013 in 12 pixel apertures; whichever is convolved, it is 6377 here."""
    assert run(*pair).kernel_sum == pytest.approx(1.0217, rel=0.01)


def test_the_planted_sources_are_found_with_their_flux(run, shared_data):
    """40 fakes: the stack finds 39, and its fluxes are 1.6 % high.

    The flux is held to the counts that were really added, Poisson draw included; these lie 0.4 % under the
    noiseless flux.
    """
    truth = Table.read(shared_data / "stripe82_repo" / "fakes.ecsv", format="ascii.ecsv")
    sources = run(14192, 6377).sources
    x, y = sources["slot_Centroid_x"], sources["slot_Centroid_y"]
    distance = np.hypot(x[:, None] - truth["x"], y[:, None] - truth["y"])
    found = distance.min(axis=0) < 2
    assert found.sum() >= 39
    flux, error = (column[distance.argmin(axis=0)[found]] for column in sources.flux("slot_PsfFlux"))
    added = np.asarray(truth["counts_added"])[found]
    weight = (added / error) ** 2
    assert (weight * flux / added).sum() / weight.sum() == pytest.approx(1, abs=0.01)
    pulls = (flux - np.asarray(truth["flux"])[found]) / error
    assert 0.8 < pulls.std() < 1.15
    assert np.sqrt(np.mean(distance.min(axis=0)[found] ** 2)) < 0.22
