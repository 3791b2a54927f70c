# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun --science a.fits --template b.fits``: the whole way, on a small field of known stars."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from diffrun.files.afw.catalog import read_catalog

SIZE, SKY, STARS = 320, 800.0, 60
#: Where the science image has a source that the template lacks: pixels from 0, counts.
NEW = (200.0, 110.0, 20000.0)


def frame(path: Path, fwhm: float, seed: int, new: float = 0.0) -> Path:
    """The same field of stars in other seeing, with Poisson noise of gain 1."""
    places = np.random.default_rng(3)
    x, y = places.uniform(20, SIZE - 21, (2, STARS))
    flux = 10 ** places.uniform(3.8, 5.0, STARS)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image, sigma = np.full((SIZE, SIZE), SKY), fwhm / 2.3548
    for px, py, counts in (*zip(x, y, flux, strict=True), (*NEW[:2], new)):
        light = np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / (2 * sigma**2))
        image += counts * light / (2 * np.pi * sigma**2)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [53.0, -28.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [SIZE / 2, SIZE / 2], [-0.2 / 3600, 0.2 / 3600]
    header = wcs.to_header()
    header.update(FILTER="r", GAIN=1.0)
    pixels = np.random.default_rng(seed).poisson(image).astype(np.float32)
    fits.writeto(path, pixels, header)
    return path


class Desk:
    """A folder with two images, a cache of its own, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.new = frame(folder / "new.fits", 4.4, 1, new=NEW[2])
        self.old = frame(folder / "old.fits", 3.4, 2)

    def __call__(self, *words: object, pair: bool = True) -> subprocess.CompletedProcess[str]:
        both = ("--science", self.new, "--template", self.old) if pair else ()
        return subprocess.run(
            [sys.executable, "-c", "from diffrun.cli import main; main()", *map(str, (*both, *words))],
            env={**os.environ, "DIFFRUN_CACHE": str(self.folder / "cache")},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def calexps(self) -> list[Path]:
        return sorted((self.folder / "cache/calexps").glob("*"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def first(desk: Desk) -> Path:
    """The run folder of the plain command."""
    shown = desk("--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [line.count("diffrun.engine") for line in shown.stdout.splitlines()] == [1, 1, 1]
    assert not desk.calexps()
    done = desk()
    assert done.returncode == 0, done.stderr
    for words in ("new.fits - old.fits", "two plain images", "prepare the template", "old.fits, r band"):
        assert words in done.stdout
    return desk.folder / "diffrun-output/new-old"


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_bytes())
    return found


def test_the_new_source_is_found_and_nothing_else(first: Path) -> None:
    summary = json.loads((first / "summary.json").read_bytes())
    assert summary["noise_ratio"] == pytest.approx(1, abs=0.03)
    (catalogue,) = first.glob("deepDiff/*/R22/diaSrc-S11.fits")
    sources = read_catalog(catalogue)
    clean = ~sources["base_PixelFlags_flag_edge"]
    assert clean.sum() == 1
    at = np.flatnonzero(clean)[0]
    assert np.hypot(sources["slot_Centroid_x"][at] - NEW[0], sources["slot_Centroid_y"][at] - NEW[1]) < 0.3
    flux, error = (column[at] for column in sources.flux("slot_PsfFlux"))
    assert abs(flux - NEW[2]) < 4 * error


def test_the_record_has_the_files_and_what_was_assumed(first: Path, desk: Desk) -> None:
    record = record_of(first)
    assert [item["path"] for item in record["inputs"]] == [str(desk.new), str(desk.old)]
    assert record["plan"]["images"]["science"] == {"image": str(desk.new)}
    assert record["prepared"]["template"]["psf"]["fwhm_pixels"] == pytest.approx(3.4, rel=0.03)
    assert record["prepared"]["science"]["gain"] == 1.0
    assert record["argv"][:5] == ["diffrun", "--science", str(desk.new), "--template", str(desk.old)]
    assert "prepare" in record["seconds"]


def test_a_template_is_prepared_once(first: Path, desk: Desk) -> None:
    before = desk.calexps()
    assert len(before) == 2
    later = frame(desk.folder / "later.fits", 4.1, 7)
    done = desk("--science", later)
    assert done.returncode == 0, done.stderr
    assert "old.fits: " in done.stdout
    assert done.stdout.count("prepared before") == 1
    assert len(desk.calexps()) == 3


def test_the_same_command_again_finds_its_run(first: Path, desk: Desk) -> None:
    again = desk()
    assert again.returncode == 0, again.stderr
    assert "finished before" in again.stdout
    other = desk("--gain", "1.1")
    assert (other.returncode, "options.science.gain: none -> 1.1" in other.stderr) == (5, True)


def test_the_run_can_be_made_again_from_its_record_alone(first: Path, desk: Desk) -> None:
    kept = desk.folder / "kept"
    (desk.folder / "cache").rename(kept)
    try:
        done = desk("verify", first, "--rerun", pair=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the same to the byte" in done.stdout
        assert "prepare the science" in done.stdout
    finally:
        shutil.rmtree(desk.folder / "cache", ignore_errors=True)
        kept.rename(desk.folder / "cache")


def test_what_lies_in_the_cache_is_not_believed_blindly(first: Path, desk: Desk) -> None:
    calexp = next(path for path in desk.calexps() if path.name.startswith("old-"))
    (image,) = calexp.glob("calexp/*/R22/S11.fits")
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + b"x")
    done = desk("--output", "other")
    image.write_bytes(whole)
    assert done.returncode == 5
    assert f"{image} has changed since it was made; remove {calexp}: it is made anew" in done.stderr
    assert not (desk.folder / "other").exists()


def test_an_image_that_cannot_be_used_is_refused_before_the_work(desk: Desk) -> None:
    blank = desk.folder / "blank.fits"
    fits.writeto(blank, np.random.default_rng(7).poisson(SKY, (200, 200)).astype(np.float32))
    done = desk("--template", blank, "--output", "never")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "blank.fits: no star for the PSF" in done.stderr
    (desk.folder / "text.fits").write_text("no image")
    done = desk("--template", "text.fits", "--output", "never")
    assert (done.returncode, "text.fits is not a FITS file" in done.stderr) == (4, True)
    assert not (desk.folder / "never").exists()
