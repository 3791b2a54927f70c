# SPDX-License-Identifier: BSD-3-Clause
"""A plain image of known stars through the program that makes a calexp of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from smallrepository import SKY, STARS, stars

from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.reader import read_exposure
from diffrun.repository.gen2 import Repository


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    pixels = np.random.default_rng(5).poisson(stars(4.2)).astype(np.float32)
    pixels[150, 150] = np.nan
    fits.writeto(folder / "plain.fits", pixels)
    words = [folder / "plain.fits", "--output", folder / "repo", "--visit", "7", "--filter", "r"]
    run = subprocess.run(
        [sys.executable, "-m", "diffrun.engine.makecalexp", *map(str, words)],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return folder / "repo", json.loads(run.stdout)


def test_the_repository_holds_the_visit(made):
    (data_id,) = Repository.open(made[0]).select(visit=7)
    assert (data_id.filter, data_id.raft, data_id.sensor) == ("r", "2,2", "1,1")


def test_seeing_and_noise_are_those_of_the_image(made):
    assert made[1]["psf"]["fwhm_pixels"] == pytest.approx(4.2, rel=0.02)
    assert made[1]["sky_sigma"] == pytest.approx(np.sqrt(SKY), rel=0.03)


def test_fluxes_are_those_that_were_put_in(made):
    random = np.random.default_rng(1)
    places, flux = random.uniform(25, 231, (STARS, 2)), 10 ** random.uniform(3.6, 5.0, STARS)
    table = read_catalog(made[0] / "src/v7-fr/R22/S11.fits")
    measured, _ = table.flux("slot_PsfFlux")
    x, y = table["slot_Centroid_x"], table["slot_Centroid_y"]
    alone = np.sort(np.hypot(*(places[:, None] - places).transpose(2, 0, 1)), axis=1)[:, 1] > 20
    alone &= flux > 15000
    nearest = np.hypot(x[:, None] - places[:, 0], y[:, None] - places[:, 1]).argmin(axis=0)[alone]
    assert np.median(measured[nearest] / flux[alone]) == pytest.approx(1, abs=0.01)


def test_a_pixel_without_a_number_is_missing_and_nothing_else(made):
    exposure = read_exposure(made[0] / "calexp/v7-fr/R22/S11.fits")
    assert made[1]["missing_pixels"] == 1
    assert np.argwhere(exposure.has("NO_DATA")).tolist() == [[150, 150]]
    assert np.isfinite(exposure.image).all()


def program(*words):
    argv = [sys.executable, "-m", "diffrun.engine.makecalexp", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_sigma_by_the_name_of_a_variance_is_known_by_measure(tmp_path):
    pixels = np.random.default_rng(6).poisson(stars(3.4)).astype(np.float32)
    mask = np.zeros(pixels.shape, np.uint8)
    mask[40:44, 60:70] = 4
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI"), fits.ImageHDU(mask, name="DQ")]
    fits.HDUList([*hdus, fits.ImageHDU(np.sqrt(pixels), name="VARIANCE")]).writeto(tmp_path / "a.fits.gz")
    done = program(tmp_path / "a.fits.gz", "--output", tmp_path / "repo", "--visit", 8, "--filter", "g")
    assert done.returncode == 0, done.stderr
    assert "sigma by measure" in json.loads(done.stdout)["variance"]
    exposure = read_exposure(tmp_path / "repo/calexp/v8-fg/R22/S11.fits")
    assert np.median(exposure.variance) == pytest.approx(SKY, rel=0.02)
    assert exposure.has("BAD")[40:44, 60:70].all()
    assert exposure.has("BAD").sum() == 40


def test_an_image_without_a_star_is_refused_or_gets_the_psf_that_is_given(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.random.default_rng(7).poisson(SKY, (200, 200)).astype(np.float32))
    words = [tmp_path / "a.fits", "--output", tmp_path / "repo", "--visit", 9]
    done = program(*words)
    assert (done.returncode, done.stdout) == (4, "")
    assert "no star for the PSF" in done.stderr
    done = program(*words, "--psf-fwhm", 3.5)
    assert done.returncode == 0, done.stderr
    psf = read_exposure(tmp_path / "repo/calexp/v9-funknown/R22/S11.fits").psf.kernel_image(100, 100)
    middle = len(psf) // 2  # the width given is the profile's own; averaging over a pixel adds 0.1
    falling = psf[middle, middle:] / psf[middle, middle]
    assert 2 * np.interp(-0.5, -falling, np.arange(len(falling))) == pytest.approx(3.6, abs=0.05)


def test_a_visit_keeps_its_filter(made, tmp_path):
    root = shutil.copytree(made[0], tmp_path / "repo")
    words = [made[0].parent / "plain.fits", "--output", root, "--visit", 7, "--filter", "g"]
    done = program(*words)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "has visit 7 in filter r, not g" in done.stderr
    (root / "registry.sqlite3").write_bytes(b"no registry" * 1000)
    done = program(*words)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "cannot read the registry" in done.stderr


def test_a_damaged_file_is_refused(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((200, 200), np.float32), checksum=True)
    whole = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(whole[:-2880])
    done = program(tmp_path / "a.fits", "--output", tmp_path / "repo", "--visit", 9)
    assert done.returncode == 4
    assert "cut short" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_sky_above_a_known_pedestal_tells_the_gain(tmp_path):
    gain, bias = 4.0, 1000
    pixels = np.random.default_rng(8).poisson(stars(3.4)) / gain + bias
    header = fits.Header({"SOFTBIAS": bias})
    fits.writeto(tmp_path / "a.fits", np.rint(pixels).astype(np.int16), header)
    done = program(tmp_path / "a.fits", "--output", tmp_path / "repo", "--visit", 9)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gain"] == pytest.approx(gain, rel=0.04)
    assert "that its sky tells above the pedestal" in done.stderr
