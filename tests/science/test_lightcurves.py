# SPDX-License-Identifier: BSD-3-Clause
"""Light curves of the Twinkles subset, made by the commands of a user, against what was injected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as arrow
import pytest
from astropy.table import Table
from numpy.typing import NDArray

import diffrun

PAIRS = "science,template\n230,195529\n185595,195529\n250,195549\n231,195529\n"
AB_ZERO = 3630780547701.0  # nJy
#: Flags of an epoch whose pixels are not to be trusted.
BAD = {"edge", "bad", "saturated", "interpolated", "cut_off", "no_flux", "off", "failed"}
ARCSEC = 1 / 3600


def command(subset: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "diffrun.cli", "campaign", *words]
    source = str(Path(diffrun.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "XDG_CACHE_HOME": str(subset.parent)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)


@dataclass(frozen=True)
class Curves:
    """The two tables of a campaign."""

    objects: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    folder: Path
    said: str


def curves(subset: Path, place: Path, *words: str) -> Curves:
    done = command(subset, "lightcurves", str(place), "--workers", "1", *words)
    assert done.returncode == 0, done.stderr
    report = place / "report"
    objects, epochs = (
        arrow.read_table(report / f"{name}.parquet").to_pylist() for name in ("objects", "lightcurves")
    )
    return Curves(objects, epochs, report, done.stdout)


@pytest.fixture(scope="module")
def campaign(subset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three pairs that are done, and one whose visit is not there."""
    place = tmp_path_factory.mktemp("campaign")
    (place / "pairs.csv").write_text(PAIRS)
    words = ("--pairs", str(place / "pairs.csv"), "--repo", str(subset), "--workers", "2")
    done = command(subset, "run", *words, "--output", str(place / "out"))
    assert "3 done, 1 failed (1 not there)" in done.stdout, done.stdout + done.stderr
    return place / "out"


@pytest.fixture(scope="module")
def truth(subset: Path) -> Table:
    return Table.read(subset / "truth.ecsv", format="ascii.ecsv")


@pytest.fixture(scope="module")
def found(campaign: Path, subset: Path) -> Curves:
    """Without places known beforehand."""
    return curves(subset, campaign)


def against_truth(found: Curves, truth: Table, kind: str) -> NDArray[np.float64]:
    """True flux, measured flux and its error, nJy, of the objects of a kind with S/N over 10 somewhere."""
    bright = {(int(row["object"]), int(row["visit"])): AB_ZERO * 10 ** (-0.4 * row["mag"]) for row in truth}
    where = {int(row["object"]): (row["ra"], row["dec"]) for row in truth if row["kind"] == kind}
    places = np.array([(each["ra"], each["dec"]) for each in found.objects])
    rows = []
    for number, (ra, dec) in where.items():
        offsets = (places - (ra, dec)) * (np.cos(np.radians(dec)), 1.0)
        nearest = int(np.argmin(np.hypot(*offsets.T)))
        if np.hypot(*offsets[nearest]) > 0.3 * ARCSEC:
            continue
        own = [row for row in found.epochs if row["object"] == nearest + 1]
        if max(abs(row["flux_njy"] / row["flux_njy_error"]) for row in own) < 10:
            continue
        for row in own:
            if not BAD & set(row["flags"].split()):
                true = bright.get((number, row["visit"]), 0.0) - bright.get((number, row["template"]), 0.0)
                rows.append((true, row["flux_njy"], row["flux_njy_error"]))
    return np.array(rows)


def check(rows: NDArray[np.float64], least: int) -> None:
    true, flux, error = rows.T
    pulls = (flux - true) / error
    assert len(pulls) >= least
    assert abs(pulls.mean()) < 0.25
    assert 0.9 < pulls.std() < 1.15
    slope = (flux * true / error**2).sum() / (true**2 / error**2).sum()
    assert abs(slope - 1) < 3 / np.sqrt((true**2 / error**2).sum()) + 0.003


def test_supernovae(found: Curves, truth: Table) -> None:
    check(against_truth(found, truth, "supernova"), 120)
    assert "231-195529 has images without rows: no visit 231" in found.said


def test_images_of_lensed_quasars(found: Curves, truth: Table) -> None:
    """They overlap, and detection has one source for all: those behind the brightest are found too."""
    check(against_truth(found, truth, "quasar"), 45)
    behind = [each for each in found.objects if each["hidden"]]
    bright = truth[truth["kind"] == "quasar"]
    for each in behind:
        offset = (bright["ra"] - each["ra"]) * np.cos(np.radians(each["dec"])), bright["dec"] - each["dec"]
        assert np.hypot(*offset).min() < 0.3 * ARCSEC
    assert len(behind) > 12


def test_images_of_lensed_quasars_at_known_places(
    campaign: Path, subset: Path, truth: Table, tmp_path: Path
) -> None:
    """Also those that nothing tells of in the differences; each keeps its name."""
    quasars = {int(row["object"]): row for row in truth if row["kind"] == "quasar"}
    lines = [f"q{number},{row['ra']:.8f},{row['dec']:.8f}\n" for number, row in quasars.items()]
    (tmp_path / "places.csv").write_text("name,ra,dec\n" + "".join(lines))
    known = curves(subset, campaign, "--places", str(tmp_path / "places.csv"))
    assert {each["name"] for each in known.objects} == {"", *(f"q{number}" for number in quasars)}
    check(against_truth(known, truth, "quasar"), 45)


def test_light_in_the_template_is_told(found: Curves, truth: Table) -> None:
    """Supernovae that shone when the template was taken, and those that were dark, far from all else."""
    flux = [row for row in truth if row["kind"] == "supernova"]
    told = []
    for row in found.epochs:
        if BAD & set(row["flags"].split()):
            continue
        sky = found.objects[row["object"] - 1]
        for true in flux:
            offset = (sky["ra"] - true["ra"]) * np.cos(np.radians(true["dec"])), sky["dec"] - true["dec"]
            if true["visit"] == row["template"] and np.hypot(*offset) < 0.3 * ARCSEC:
                snr = AB_ZERO * 10 ** (-0.4 * true["mag"]) / row["template_njy_error"]
                alone = true["host"] == 0 and true["neighbour"] > 3
                told.append((snr, alone, "template_light" in row["flags"].split()))
    shining = [flag for snr, _, flag in told if snr > 10]
    dark = [flag for snr, alone, flag in told if snr < 0.5 and alone]
    assert len(shining) > 5 and all(shining)
    assert len(dark) > 10 and not any(dark)


def test_every_object_has_a_row_for_every_pair(found: Curves) -> None:
    seen = {(row["object"], row["pair"]) for row in found.epochs}
    pairs = ("230-195529", "185595-195529", "250-195549")
    assert seen == {(each["object"], pair) for each in found.objects for pair in pairs}
    for row in found.epochs:
        assert np.isfinite(row["mjd"])
        assert np.isfinite(row["flux_njy"]) or {"no_flux", "off"} & set(row["flags"].split())


def test_any_number_of_processes_makes_the_same_bytes(campaign: Path, subset: Path) -> None:
    written = []
    for workers in ("1", "2"):
        done = command(subset, "lightcurves", str(campaign), "--workers", workers)
        assert done.returncode == 0, done.stderr
        report = campaign / "report"
        written.append([(report / f"lightcurves.{end}").read_bytes() for end in ("csv", "parquet")])
    assert written[0] == written[1]


def test_places_that_are_none_are_refused(campaign: Path, subset: Path, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text("x,y\n1,2\n")
    done = command(subset, "lightcurves", str(campaign), "--places", str(tmp_path / "places.csv"))
    assert done.returncode == 2
    assert "has the columns x, y; ra and dec are needed" in done.stderr


def test_without_a_pair_that_is_done(subset: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    done = command(subset, "lightcurves", str(tmp_path))
    assert done.returncode == 4 and "has no pair with a catalogue" in done.stderr
