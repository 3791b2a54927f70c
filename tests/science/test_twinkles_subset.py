# SPDX-License-Identifier: BSD-3-Clause
"""The Twinkles subset against what it claims: made again, and compared with GalSim, astropy and the truth."""

from __future__ import annotations

import csv
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import label

import diffrun.twinkles
from diffrun.errors import DataError
from diffrun.files.afw.background import read_background
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import psf_image
from diffrun.files.afw.reader import read_exposure
from diffrun.repository.gen2 import Repository

ROOT = Path(__file__).resolve().parents[2]
SIMULATE = ROOT / "ci" / "twinkles" / "simulate.py"
BANDS = {230: "r", 250: "g", 185595: "r", 195529: "r", 195549: "g"}
FWHM = {230: 1.10, 250: 1.13, 185595: 0.90, 195529: 0.68, 195549: 0.71}
ZERO_POINT = {"g": 28.51, "r": 28.36}
PAIRS = ((230, 195529), (230, 250), (230, 185595), (250, 195549))
EDGE = 60  # pixels


@dataclass(frozen=True)
class Visit:
    """One visit as shipped."""

    calexp: Exposure
    src: Catalog
    background: NDArray[np.float32]
    truth: Table
    static: Table


@pytest.fixture(scope="module")
def tables(subset: Path) -> tuple[Table, Table]:
    return tuple(Table.read(subset / name, format="ascii.ecsv") for name in ("truth.ecsv", "static.ecsv"))


@pytest.fixture(scope="module")
def visit(subset: Path, tables: tuple[Table, Table]) -> Callable[[int], Visit]:
    repository, seen = Repository.open(subset), {}

    def get(number: int) -> Visit:
        if number not in seen:
            (data_id,) = repository.select(visit=number)
            calexp = read_exposure(repository.require("calexp", data_id))
            src = read_catalog(repository.require("src", data_id))
            background = read_background(repository.require("calexpBackground", data_id)).image(calexp.shape)
            seen[number] = Visit(calexp, src, background, *(t[t["visit"] == number] for t in tables))
        return seen[number]

    return get


def test_one_visit_made_again_is_identical(subset: Path, tmp_path: Path) -> None:
    """Planes, background and registry to the last bit; numbers from linear algebra to 1e-6."""
    command = [sys.executable, str(SIMULATE), "--visit", "195549", "--output", str(tmp_path / "again")]
    subprocess.run(command, check=True, timeout=240, stdout=subprocess.DEVNULL)
    for name in ("calexp/v195549-fg/R22/S11.fits", "calexp/v195549-fg/R22/bkgd-S11.fits"):
        with fits.open(subset / name) as shipped, fits.open(tmp_path / "again" / name) as made:
            assert len(shipped) == len(made)
            for old, new in zip(shipped[:4], made[:4], strict=True):
                if old.data is not None:
                    np.testing.assert_array_equal(old.data, new.data)
    shipped_psf, made_psf = (
        read_exposure(root / "calexp/v195549-fg/R22/S11.fits").psf.kernel_image(1600.0, 2300.0)
        for root in (subset, tmp_path / "again")
    )
    np.testing.assert_allclose(made_psf, shipped_psf, atol=1e-6 * shipped_psf.max())
    old_src, new_src = (
        read_catalog(root / "src/v195549-fg/R22/S11.fits") for root in (subset, tmp_path / "again")
    )
    assert old_src.names == new_src.names
    for name in old_src.names:
        np.testing.assert_allclose(new_src[name], old_src[name], rtol=1e-6, err_msg=name)
    rows = "select visit, filter, raft, sensor, channel, snap, taiObs, expTime from raw where visit = 195549"
    assert _query(subset, rows) == _query(tmp_path / "again", rows)
    for name in ("truth.ecsv", "static.ecsv"):
        old_table, new_table = (
            Table.read(root / name, format="ascii.ecsv") for root in (subset, tmp_path / "again")
        )
        old_table = old_table[old_table["visit"] == 195549]
        assert all((old_table[c] == new_table[c]).all() for c in ("object", "x", "y", "mag", "flux"))


def _query(root: Path, text: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{root / 'registry.sqlite3'}?mode=ro", uri=True)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def test_what_is_packed_stays_small() -> None:
    packed = Path(diffrun.twinkles.__file__).parent / "packed"
    assert 0 < sum(p.stat().st_size for p in packed.iterdir()) < 12_000_000


def test_processes_that_unpack_at_once_find_one_whole_folder(tmp_path: Path, subset: Path) -> None:
    code = "import sys, pathlib, diffrun.twinkles as t; print(t.unpack(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    (root,) = {Path(process.communicate(timeout=120)[0].strip()) for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert [p.name for p in root.parent.iterdir()] == [subset.name]
    for path in subset.rglob("*.fits"):
        assert (root / path.relative_to(subset)).stat().st_size == path.stat().st_size


def test_damage_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Path(diffrun.twinkles.__file__).parent / "packed"
    shutil.copytree(packed, tmp_path / "packed")
    content = bytearray((packed / "250.tar.xz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "packed" / "250.tar.xz").write_bytes(content)
    monkeypatch.setattr(diffrun.twinkles, "_PACKED", tmp_path / "packed")
    with pytest.raises(DataError, match=r"250\.tar\.xz.*install diffrun again"):
        diffrun.twinkles.unpack(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_mapper_and_registry_are_those_of_obs_lsstsim(subset: Path) -> None:
    """gen2.md 1.1 and 1.4: names, types and values as ingestSimImages makes them."""
    assert (subset / "_mapper").read_text() == "lsst.obs.lsstSim.lsstSimMapper.LsstSimMapper\n"
    raw = _query(
        subset, "select visit, filter, snap, raft, sensor, ccd, channel, expTime from raw order by visit"
    )
    assert raw == [(v, BANDS[v], 0, "2,2", "1,1", "1,1", "0,0", 30.0) for v in sorted(BANDS)]
    assert dict(_query(subset, "select visit, filter from raw_visit")) == BANDS
    # MJD 59580.139555 TAI, less the 37 s between TAI and UTC.
    (began,) = _query(subset, "select taiObs from raw where visit = 230")[0]
    assert began.startswith("2022-01-01T03:20:20.552") and len(began) == 29
    assert len(read_catalog(subset / "schema" / "src.fits")) == 0


@pytest.mark.parametrize("number", BANDS)
def test_planes_are_counts_background_and_their_noise(number: int, visit: Callable[[int], Visit]) -> None:
    shipped = visit(number)
    calexp = shipped.calexp
    counts = calexp.image.astype(float) + shipped.background
    assert np.abs(counts - np.rint(counts)).max() < 0.01
    np.testing.assert_allclose(calexp.variance, np.maximum(counts, 0) + 81.0, atol=0.02)
    sky = calexp.mask == 0
    pulls = calexp.image[sky] / np.sqrt(calexp.variance[sky])
    assert np.std(pulls) == pytest.approx(1.0, abs=0.01)
    assert abs(np.median(pulls)) < 0.03
    assert (calexp.xy0, calexp.shape, calexp.filter) == ((1400, 1600), (1024, 1024), BANDS[number])


@pytest.mark.parametrize("number", BANDS)
def test_zero_point_is_that_of_lsst(number: int, visit: Callable[[int], Visit]) -> None:
    nominal = 30 * 10 ** (0.4 * ZERO_POINT[BANDS[number]])
    assert visit(number).calexp.flux_mag0 / nominal == pytest.approx(1.0, abs=0.031)
    seen = visit(number).static
    expected = visit(number).calexp.flux_mag0 * 10 ** (-0.4 * np.asarray(seen["mag"]))
    # Magnitudes are given to 1e-4, fluxes to 1e-3 counts.
    np.testing.assert_allclose(seen["flux"], expected, rtol=1e-4, atol=1e-3)


def test_masks_hold_saturation_cosmic_rays_and_fixed_dead_columns(visit: Callable[[int], Visit]) -> None:
    dead = [visit(number).calexp.has("BAD") for number in BANDS]
    assert dead[0].sum() > 1000 and all((d == dead[0]).all() for d in dead)
    for number in BANDS:
        calexp = visit(number).calexp
        assert 10 <= label(calexp.has("CR"), np.ones((3, 3)))[1] <= 60
        assert (calexp.has("INTRP") == (calexp.has("CR") | calexp.has("BAD"))).all()
        assert 2 <= label(calexp.has("SAT"), np.ones((3, 3)))[1] <= 8
        counts = calexp.image + visit(number).background
        assert np.abs(counts[calexp.has("SAT")] - 100_000).max() < 0.02
        assert counts[~calexp.has("SAT")].max() < 100_000
        # Nothing of the charge of cosmic rays is left: an interpolated pixel is like its neighbours.
        quiet = calexp.has("CR") & ~calexp.has("DETECTED")
        if quiet.any():
            assert np.abs(calexp.image[quiet] / np.sqrt(calexp.variance[quiet])).max() < 6
        assert calexp.has("EDGE")[:, 0].all() and not calexp.has("EDGE")[500, 500]


@pytest.mark.parametrize("number", BANDS)
def test_world_coordinates_agree_with_astropy_and_the_truth(
    number: int, subset: Path, visit: Callable[[int], Visit]
) -> None:
    shipped = visit(number)
    ra, dec = np.asarray(shipped.static["ra"]), np.asarray(shipped.static["dec"])
    x, y = shipped.calexp.wcs.sky_to_pixel(ra, dec)
    # Sky positions are given to 1e-8 deg, 2e-4 pixel.
    np.testing.assert_allclose(x, shipped.static["x"], atol=5e-4)
    np.testing.assert_allclose(y, shipped.static["y"], atol=5e-4)
    header = fits.getheader(subset / f"calexp/v{number}-f{BANDS[number]}/R22/S11.fits", 1)
    there = WCS(header, key=" ").all_world2pix(ra, dec, 0)
    np.testing.assert_allclose(np.add(np.transpose(there), [1400, 1600]), np.transpose([x, y]), atol=1e-6)


def test_visits_overlap_and_turn(visit: Callable[[int], Visit]) -> None:
    y, x = np.mgrid[1600:2624:8, 1400:2424:8].astype(float)
    sky = visit(230).calexp.wcs.pixel_to_sky(x.ravel(), y.ravel())
    for number in set(BANDS) - {230}:
        wcs = visit(number).calexp.wcs
        u, v = wcs.sky_to_pixel(*sky)
        assert np.mean((u >= 1400) & (u < 2424) & (v >= 1600) & (v < 2624)) > 0.85
        turn = np.rad2deg(np.arctan2(wcs.cd[1, 0], wcs.cd[0, 0]))
        first = visit(230).calexp.wcs.cd
        change = abs((turn - np.rad2deg(np.arctan2(first[1, 0], first[0, 0])) + 180) % 360 - 180)
        assert 0.5 <= change <= 2.0


@pytest.mark.parametrize("number", BANDS)
def test_stars_are_measured_where_and_as_bright_as_they_are(
    number: int, visit: Callable[[int], Visit]
) -> None:
    shipped = visit(number)
    src = shipped.src
    flux, error = src.flux("slot_PsfFlux")
    x, y = src["slot_Centroid_x"], src["slot_Centroid_y"]
    bad = src["base_PixelFlags_flag_saturated"] | src["base_PixelFlags_flag_edge"]
    bad |= src["base_PixelFlags_flag_interpolated"] | (src["deblend_nChild"] > 0)
    stars = shipped.static[(shipped.static["kind"] == "star") & (shipped.static["snr"] > 30)]
    stars = stars[stars["neighbour"] > 5]
    rows, found = [], []
    for star in stars:
        distance = np.where(bad, np.inf, np.hypot(x - star["x"], y - star["y"]))
        if distance.min() < 1.5:
            rows.append(int(np.argmin(distance)))
            found.append(star)
    true = np.array([star["flux"] for star in found])
    assert len(rows) >= 20
    assert np.median(flux[rows] / true) == pytest.approx(1.0, abs=0.006)
    # Errors of the PSF model add to the noise, by 1 per cent at most.
    pulls = (flux[rows] - true) / np.hypot(error[rows], 0.01 * true)
    assert 0.4 < np.std(pulls) < 1.5
    shifts = np.array([(x[i] - s["x"], y[i] - s["y"]) for i, s in zip(rows, found, strict=True)])
    assert np.abs(np.median(shifts, axis=0)).max() < 0.03
    assert np.mean(src["base_ClassificationExtendedness_value"][rows]) < 0.1


@pytest.mark.parametrize("number", BANDS)
def test_psf_model_is_the_true_psf(number: int, visit: Callable[[int], Visit]) -> None:
    """At nine places, against the shape drawn by GalSim from the formula in the README."""
    shipped = visit(number)
    true = _true_psf(number)
    biases = []
    for x in (1550.0, 1912.0, 2270.0):
        for y in (1750.0, 2112.0, 2470.0):
            model, x0, y0 = psf_image(shipped.calexp.psf, x, y)
            assert model.shape == (41, 41) and (x0, y0) == (int(x) - 20, int(y) - 20)
            drawn = true(x, y)
            biases.append(np.sum(model * drawn) / np.sum(model**2) / drawn.sum() - 1)
    assert np.abs(np.mean(biases)) < 0.005
    assert np.abs(biases).max() < 0.02


def test_light_outside_the_stamp_is_as_stated(visit: Callable[[int], Visit]) -> None:
    """A large image of the true PSF holds what ``flux_total`` claims beyond ``flux``."""
    for number in (230, 195529):
        on_stamp = _true_psf(number)(1912.0, 2112.0).sum()
        stated = np.asarray(visit(number).static["flux"] / visit(number).static["flux_total"])
        bright = np.asarray(visit(number).static["flux"]) > 1000
        np.testing.assert_allclose(stated[bright], on_stamp, atol=3e-4)


def _true_psf(number: int) -> Callable[[float, float], NDArray[np.float64]]:
    """The PSF of the README at a parent pixel on a 41 pixel stamp; size and shape vary as simulated."""
    sys.path.insert(0, str(SIMULATE.parent))
    try:
        from visits import VISITS
    finally:
        sys.path.remove(str(SIMULATE.parent))

    def draw(x: float, y: float) -> NDArray[np.float64]:
        psf = VISITS[number].psf(x, y, folding_threshold=2e-4)
        big = psf.drawImage(nx=801, ny=801, scale=0.2, dtype=float)
        assert big.array.sum() == pytest.approx(1.0, abs=1e-3)
        assert galsim.hsm.FindAdaptiveMom(big).moments_sigma * 0.2 == pytest.approx(
            FWHM[number] / 2.2, rel=0.15
        )
        return np.array(big.array[380:421, 380:421])

    return draw


def _sigma(truth: Table) -> float:
    """Noise of a PSF flux on empty sky, counts."""
    seen = truth[truth["snr"] > 1]
    return float(np.median(seen["flux"] / seen["snr"]))


def test_enough_changes_both_ways_in_every_pair(tables: tuple[Table, Table]) -> None:
    truth = tables[0]
    first = truth[truth["visit"] == 230]
    kinds = dict(zip(*np.unique(first["kind"], return_counts=True), strict=True))
    assert kinds == {"supernova": 72, "quasar": 20, "variable": 10, "asteroid": 3}
    hosts = np.asarray(first["host"][first["kind"] == "supernova"])
    assert (hosts > 0).sum() >= 20 and (hosts == 0).sum() >= 5
    assert len(np.unique(first["host"][first["kind"] == "quasar"])) == 5
    for science, template in PAIRS:
        a, b = truth[truth["visit"] == science], truth[truth["visit"] == template]
        assert (a["object"] == b["object"]).all()
        # Colours change by a common factor from band to band; stars of the field have g - r near 0.95.
        scale = np.median(a["flux"][a["kind"] == "variable"] / b["flux"][b["kind"] == "variable"])
        sigma = np.hypot(_sigma(a), _sigma(b))
        snr = np.asarray(a["flux"] - scale * b["flux"]) / sigma
        novae = snr[np.asarray(a["kind"] == "supernova")]
        assert (novae > 4).sum() >= 2 and (novae < -4).sum() >= 2
        strong = np.abs(snr[np.abs(snr) > 4])
        assert len(strong) >= 25 and strong.min() < 10 and strong.max() > 100


def test_asteroids_move_between_the_visits_of_a_night(tables: tuple[Table, Table]) -> None:
    truth = tables[0][tables[0]["kind"] == "asteroid"]
    for a, b in ((230, 250), (195529, 195549)):
        first, second = truth[truth["visit"] == a], truth[truth["visit"] == b]
        here = np.asarray(first["flux"]) > 0
        north = 3600 * np.asarray(second["dec"] - first["dec"])
        east = 3600 * np.asarray(second["ra"] - first["ra"]) * np.cos(np.deg2rad(first["dec"]))
        speed = np.hypot(north, east) / (0.0097 * 24)
        assert here.any() and ((speed > 18) & (speed < 42)).all()


def test_enough_stars_to_match(visit: Callable[[int], Visit]) -> None:
    stars = visit(230).static[visit(230).static["kind"] == "star"]
    assert ((stars["snr"] > 30) & (stars["mag"] > 16.7)).sum() >= 40
    assert 2 <= (stars["mag"] < 16.0).sum() <= 5


def test_conditions_are_those_of_opsim(shared_data: Path, visit: Callable[[int], Visit]) -> None:
    """Seeing, sky and depth lie among OpSim's visits of the field in the same band."""
    with (shared_data / "twinkles_visits.csv").open() as file:
        opsim = list(csv.DictReader(file))
    for number, band in BANDS.items():
        shipped = visit(number)
        same = [row for row in opsim if row["filter"] == band]

        def among(name: str, value: float, same: list[dict[str, str]] = same, slack: float = 0.0) -> bool:
            low, high = np.percentile([float(row[name]) for row in same], [1, 99])
            return bool(low - slack <= value <= high + slack)

        assert among("FWHMeff", FWHM[number])
        level = np.median(shipped.background)
        assert among("filtSkyBrightness", -2.5 * np.log10(level / 0.04 / shipped.calexp.flux_mag0))
        sigma = _sigma(shipped.truth)
        assert among("fiveSigmaDepth", -2.5 * np.log10(5 * sigma / shipped.calexp.flux_mag0), slack=0.1)
