# SPDX-License-Identifier: BSD-3-Clause
"""Two plain images of SDSS Stripe 82, as the survey left them, differenced by one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.psf import psf_image
from diffrun.files.afw.reader import read_exposure

#: Electrons per count in r of camera column 4, of the survey's tsField files.
GAIN = 4.76
IMAGES = {4192: "fpC-004192-r4-0300.fit.gz", 6377: "fpC-006377-r4-0399.fit.gz"}


@pytest.fixture(scope="module")
def fakes(shared_data):
    return Table.read(shared_data / "stripe82_repo" / "fakes.ecsv", format="ascii.ecsv")


@pytest.fixture(scope="module")
def images(shared_data, fakes, tmp_path_factory):
    """The frames; to the first are added point sources with the PSF that the real stack measured on it."""
    psf = read_exposure(shared_data / "stripe82_repo" / "calexp/v4192-fr/R22/S11.fits").psf
    planted = tmp_path_factory.mktemp("planted") / "planted.fits"
    with fits.open(shared_data / "stripe82" / IMAGES[4192]) as hdus:
        pixels, random = hdus[0].data.astype(np.float32), np.random.default_rng(1)
        for x, y, flux in zip(fakes["x"], fakes["y"], fakes["flux"], strict=True):
            stamp, x0, y0 = psf_image(psf, float(x), float(y))
            pixels[y0 : y0 + stamp.shape[0], x0 : x0 + stamp.shape[1]] += (
                random.poisson(np.clip(stamp, 0, None) * flux) / GAIN
            )
        header = hdus[0].header.copy()
        for card in ("BZERO", "BSCALE"):
            header.remove(card, ignore_missing=True)
        fits.writeto(planted, np.rint(pixels), header, output_verify="silentfix")
    return {4192: planted, 6377: shared_data / "stripe82" / IMAGES[6377]}


@pytest.fixture(scope="module")
def done(images, shared_data, tmp_path_factory):
    """By one command: the repository of both calexps, what is known of them, the difference, its sources."""
    folder = tmp_path_factory.mktemp("plainsky")
    program = "from diffrun.cli import main; main()"
    words = ["--science", images[4192], "--template", images[6377], "--output", "run"]
    words += ["--science-mask", shared_data / "stripe82" / "fpM-004192-r4-0300.fit"]
    words += ["--template-mask", shared_data / "stripe82" / "fpM-006377-r4-0399.fit"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words), "--json"],
        env={**os.environ, "DIFFRUN_CACHE": str(folder / "cache")},
        cwd=folder,
        stdout=subprocess.PIPE,
        check=True,
    )
    files = {name: Path(path) for name, path in json.loads(done.stdout)["files"].items()}
    record = json.loads(files["record"].read_bytes())
    sides = {4192: "science", 6377: "template"}
    made = {run: record["prepared"][side] for run, side in sides.items()}
    difference, sources = read_exposure(files["difference"]), read_catalog(files["catalogue"])
    return Path(record["plan"]["repository"]), made, difference, sources


def of_visit(done, dataset, run):
    visit = done[1][run]["data_id"]
    return done[0] / f"{dataset}/v{visit['visit']}-f{visit['filter']}/R22/S11.fits"


def test_the_seeing_is_what_the_stack_measures(done, shared_data):
    for run, facts in done[1].items():
        psf = read_exposure(shared_data / "stripe82_repo" / f"calexp/v{run}-fr/R22/S11.fits").psf
        ours = read_exposure(of_visit(done, "calexp", run)).psf
        for x, y in ((800, 500), (1300, 1000)):
            # The PSF weighs noise by its sum of squares: that is what a flux's error hangs on.
            stack, mine = (np.sum(p.kernel_image(x, y) ** 2) for p in (psf, ours))
            assert mine == pytest.approx(stack, rel=0.05)
        assert facts["data_id"]["filter"] == "r"


def test_the_sky_tells_the_gain(done):
    """But for the noise of reading, which is 4 % of the sky's."""
    for facts in done[1].values():
        assert 0.93 * GAIN < facts["gain"] < GAIN


def test_saturated_stars_leave_no_clean_source(done):
    """The survey has filled their middles: only its masks tell."""
    sources = done[3]
    clean = ~(sources["base_PixelFlags_flag_saturated"] | sources["base_PixelFlags_flag_edge"])
    for x, y in ((1563, 281), (1001, 295), (312, 357), (1845, 41), (1597, 72)):
        near = np.hypot(sources["slot_Centroid_x"] - x, sources["slot_Centroid_y"] - y) < 10
        assert not (near & clean).any()


def test_the_noise_is_true(done):
    difference = done[2]
    hidden = ("BAD", "SAT", "SAT_TEMPLATE", "EDGE", "NO_DATA", "DETECTED", "DETECTED_NEGATIVE", "INTRP", "CR")
    with np.errstate(all="ignore"):
        pull = (difference.image / np.sqrt(difference.variance))[~difference.has(*hidden)]
    low, middle, high = np.percentile(pull, [16, 50, 84])
    assert (high - low) / 2 == pytest.approx(1, abs=0.015)
    assert abs(middle) < 0.01


def test_stars_leave_what_noise_leaves(done, fakes):
    """The real stack, on its own calexps of these frames, leaves 1.17."""
    difference = done[2]
    src = read_catalog(of_visit(done, "src", 4192))
    flux, error = src.flux("slot_PsfFlux")
    x, y = src["slot_Centroid_x"], src["slot_Centroid_y"]
    star = (flux > 10 * error) & (flux < 500 * error) & (src["base_ClassificationExtendedness_value"] < 0.5)
    star &= np.hypot(x[:, None] - fakes["x"], y[:, None] - fakes["y"]).min(axis=1) > 15
    offset_y, offset_x = np.mgrid[-6:7, -6:7]
    disc = np.hypot(offset_x, offset_y) <= 6
    unusable, (ny, nx) = difference.has("SAT", "SAT_TEMPLATE", "BAD", "NO_DATA", "EDGE"), difference.shape
    values = []
    for px, py in zip(x[star], y[star], strict=True):
        i, j = round(py), round(px)
        window = np.s_[i - 6 : i + 7, j - 6 : j + 7]
        if not (25 < j < nx - 25 and 25 < i < ny - 25) or unusable[window][disc].any():
            continue
        if np.sort(np.hypot(x - px, y - py))[1] > 13:
            values.append(np.mean((difference.image[window] ** 2 / difference.variance[window])[disc]))
    assert len(values) > 80
    assert np.median(values) < 1.12


def test_the_asteroid_is_found(done):
    """A moving object in run 6377 only: S/N 19 by the stack, 17 by the engine on the stack's own calexps."""
    _, _, difference, sources = done
    (x,), (y,) = difference.wcs.sky_to_pixel(np.array([351.68445]), np.array([0.15174]))
    distance = np.hypot(sources["slot_Centroid_x"] - x, sources["slot_Centroid_y"] - y)
    assert distance.min() < 1
    assert sources["diffrun_snr"][distance.argmin()] == pytest.approx(-18, abs=2)


def test_planted_sources_have_their_flux(done, fakes):
    sources = done[3]
    distance = np.hypot(
        sources["slot_Centroid_x"][:, None] - fakes["x"], sources["slot_Centroid_y"][:, None] - fakes["y"]
    )
    found = distance.min(axis=0) < 2
    flux, error = (column[distance.argmin(axis=0)[found]] * GAIN for column in sources.flux("slot_PsfFlux"))
    truth = np.asarray(fakes["flux"])[found]
    weight = (truth / error) ** 2
    ratio, uncertainty = (weight * flux / truth).sum() / weight.sum(), weight.sum() ** -0.5
    assert found.sum() >= 38
    assert ratio == pytest.approx(1, abs=max(3 * uncertainty, 0.02))
    assert 0.8 < ((flux - truth) / error).std() < 1.2
