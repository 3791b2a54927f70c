# SPDX-License-Identifier: BSD-3-Clause
"""Exposures of the stack given as two files: what they bring is kept, and only ``src`` is made."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from diffrun.engine.makecalexp import __main__ as program
from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.reader import read_exposure
from diffrun.files.afw.writer import write_exposure

#: Written by the stack of 2026 (each class of PSF, WCS and zero point), and by that of 2013.
TRUE = [
    *(f"lsst_reference/{name}.fits" for name in (
        "single_gaussian", "double_gaussian", "gaussian", "kernel_polynomial", "kernel_chebyshev",
        "kernel_fixed", "kernel_analytic", "pca", "psfex", "coadd", "warped", "full_info", "lossy_compressed",
    )),
    "afw/calexp.fits",
]  # fmt: skip


def made(capsys: pytest.CaptureFixture[str], path: Path, root: Path, *words: str) -> dict[str, Any]:
    status = program.main([str(path), "--output", str(root), "--visit", "7", *words])
    said, errors = capsys.readouterr()
    assert status == 0, errors
    return dict(json.loads(said))


def path_of(told: dict[str, Any], name: str) -> Path:
    return Path(next(path for path in told["files"] if f"/{name}/v7" in path and "bkgd" not in path))


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("name", TRUE)
def test_what_a_file_brings_is_kept(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calexp is the file, byte by byte."""
    told = made(capsys, shared_data / name, tmp_path / "repo")
    assert told["notes"] == ["an exposure of the stack: its PSF, WCS, mask, variance and zero point are kept"]
    assert path_of(told, "calexp").read_bytes() == (shared_data / name).read_bytes()
    assert told["psf"]["given"] is True
    assert len(read_catalog(path_of(told, "src"))) == told["sources"]


def test_the_sources_are_those_that_the_stack_measured(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the sources that the stack neither deblended nor flagged, in parent pixels."""
    told = made(capsys, shared_data / "lsst_reference/source_catalog_exposure.fits", tmp_path / "repo")
    ours = read_catalog(path_of(told, "src"))
    stack = Table.read(shared_data / "lsst_reference/source_catalog.ecsv")
    alone = (stack["parent"] == 0) & (stack["deblend_nChild"] <= 1) & ~stack["base_PsfFlux_flag"]
    alone &= stack["base_PsfFlux_instFlux"] > 20 * stack["base_PsfFlux_instFluxErr"]
    assert alone.sum() >= 8
    x, y = (np.asarray(ours[f"slot_Centroid_{axis}"]) for axis in "xy")
    for row in stack[alone]:
        distance = np.hypot(x - row["base_SdssCentroid_x"], y - row["base_SdssCentroid_y"])
        nearest = distance.argmin()
        assert distance[nearest] < 0.15
        error = 3 * row["base_PsfFlux_instFluxErr"]
        assert ours["base_PsfFlux_flux"][nearest] == pytest.approx(
            row["base_PsfFlux_instFlux"], rel=0.02, abs=error
        )
        assert np.degrees(ours["coord_ra"][nearest]) == pytest.approx(np.degrees(row["coord_ra"]), abs=1e-5)


@pytest.mark.parametrize("name", ["HSC-0908120-056-small", "scienceMI"])
def test_planes_of_a_file_without_psf_are_used(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of afw's oldest files have no names but EXTTYPE."""
    told = made(capsys, shared_data / f"afw/{name}.fits", tmp_path / "repo")
    assert "planes by name" in told["mask"]
    assert any(note.startswith("variance: the HDU VARIANCE") for note in told["notes"])


def test_one_whose_psf_is_of_an_unknown_class_is_a_plain_image(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.fits"
    with fits.open(shared_data / "lsst_reference/source_catalog_exposure.fits") as hdus:
        for hdu in hdus[4:]:
            if "name" in hdu.columns.names:
                hdu.data["name"][hdu.data["name"] == "SingleGaussianPsf"] = "PickledPsf"
        hdus.writeto(path, checksum=True)
    told = made(capsys, path, tmp_path / "repo")
    assert re.match("an exposure of the stack, taken as a plain image: .*PickledPsf", told["notes"][0])
    assert told["psf"]["fwhm_pixels"] == pytest.approx(4.71, rel=0.05)
    assert "planes by name" in told["mask"]


def test_a_gzipped_one_and_one_of_which_the_user_says_more(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = shared_data / "lsst_reference/source_catalog_exposure.fits"
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(true.read_bytes(), 1))
    told = made(capsys, path, tmp_path / "repo", "--filter", "r")
    assert path_of(told, "calexp").read_bytes() == true.read_bytes()
    told = made(capsys, path, tmp_path / "other", "--gain", "2")
    assert told["notes"][0] == "an exposure of the stack, taken as a plain image because of --gain"
    assert "given" not in told["psf"]


def test_two_of_them_are_differenced(shared_data: Path, tmp_path: Path) -> None:
    """The stack's own exposure, and the same sky in other noise with two sources changed."""
    true = shared_data / "lsst_reference/source_catalog_exposure.fits"
    science = read_exposure(true)
    image = science.image + np.random.default_rng(2).normal(0, 15, science.shape).astype(np.float32)
    (x0, y0), changed = science.xy0, ((60, 200, 9000.0), (240, 30, -7000.0))
    for x, y, flux in changed:
        star = science.psf.kernel_image(x + x0, y + y0)
        half = len(star) // 2
        image[y - half : y + half + 1, x - half : x + half + 1] += (flux * star).astype(np.float32)
    old = science.replace(image=image, variance=science.variance + np.float32(225), filter="r")
    write_exposure(tmp_path / "old.fits", old)
    run = subprocess.run(
        [sys.executable, "-c", "from diffrun.cli import main; main()", "--science", true, "--template",
         tmp_path / "old.fits", "--filter", "r"],
        env={**os.environ, "DIFFRUN_CACHE": str(tmp_path / "cache")}, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "source_catalog_exposure.fits: its own PSF, 4.71 pixels wide" in " ".join(run.stdout.split())
    folder = tmp_path / "diffrun-output/source_catalog_exposure-old"
    (difference,) = folder.rglob("diffexp-*.fits")
    (table,) = folder.rglob("diaSrc-*.fits")
    exposure, sources = read_exposure(difference), read_catalog(table)
    assert exposure.xy0 == science.xy0
    assert exposure.flux_mag0 == pytest.approx(science.flux_mag0)
    planes = ("NO_DATA", "EDGE", "SAT", "BAD", "DETECTED", "DETECTED_NEGATIVE")
    pull = (exposure.image / np.sqrt(exposure.variance))[~exposure.has(*planes)]
    # The science image's own noise of variance 200 is in both, and cancels; 225 of 200 + 425 is left.
    assert np.diff(np.percentile(pull, [15.87, 84.13]))[0] / 2 == pytest.approx(0.6, abs=0.03)
    x, y = (np.asarray(sources[f"slot_Centroid_{axis}"]) for axis in "xy")
    flux = np.asarray(sources["slot_PsfFlux_flux"])
    for a, b, value in changed:
        nearest = np.hypot(x - a - x0, y - b - y0).argmin()
        assert np.hypot(x - a - x0, y - b - y0)[nearest] < 0.5
        assert flux[nearest] == pytest.approx(-value, rel=0.1)
