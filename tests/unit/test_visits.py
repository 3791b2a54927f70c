# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun visits``: a repository made with known seeing, depth and place, and the Twinkles subset."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffrun import visits
from diffrun.display import Screen
from diffrun.errors import RepositoryError
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf
from diffrun.files.afw.wcs import MADE_UP, TanSipWcs
from diffrun.files.afw.writer import write_exposure
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

SIDE, SCALE, ZERO = 128, 0.2 / 3600, 1e12


@dataclass(frozen=True)
class Made:
    """A visit to be made: its number, band, seeing in pixels, noise, shift in pixels, sensors, time, WCS."""

    visit: int
    band: str = "r"
    fwhm: float = 4.0
    noise: float = 30.0
    shift: float = 0.0
    sensors: tuple[str, ...] = ("1,1",)
    mjd: float = math.nan
    placed: bool = True

    @property
    def depth(self) -> float:
        """Magnitude at S/N 5 of a Gaussian on white noise."""
        area = 4 * math.pi * (self.fwhm / 2.3548) ** 2
        return -2.5 * math.log10(5 * self.noise * math.sqrt(area) / ZERO)

    def exposure(self) -> Exposure:
        i = np.arange(-20, 21)
        stamp = np.exp(-(i[:, None] ** 2 + i**2) / (2 * (self.fwhm / 2.3548) ** 2))
        kernel = LinearCombinationKernel(
            stamp[None] / stamp.sum(), np.ones((1, 1)), (-0.5, -0.5, SIDE - 0.5, SIDE - 0.5)
        )
        wcs = TanSipWcs((53.0, -27.0), (SIDE / 2 + self.shift, SIDE / 2), np.diag([-SCALE, SCALE]))
        image = np.zeros((SIDE, SIDE), np.float32)
        return Exposure(
            image,
            np.zeros(image.shape, np.int32),
            np.full(image.shape, self.noise**2, np.float32),
            wcs,
            KernelPsf(kernel, (SIDE / 2, SIDE / 2)),
            (0, 0),
            filter=self.band,
            flux_mag0=ZERO,
            mjd=self.mjd,
            metadata={} if self.placed else {MADE_UP: True},
        )


def repository(root: Path, *made: Made) -> Path:
    root.mkdir()
    (root / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    with sqlite3.connect(root / "registry.sqlite3") as registry:
        registry.execute(
            "create table raw (id integer primary key, visit int, filter text, raft text, sensor text)"
        )
        for one in made:
            for sensor in one.sensors:
                row = (one.visit, one.band, "2,2", sensor)
                registry.execute("insert into raw (visit, filter, raft, sensor) values (?, ?, ?, ?)", row)
                write_exposure(root / relative("calexp", DataId(*row)), one.exposure())
    registry.close()
    return root


def listed(root: Path, **more: Any) -> visits.Listing:
    return visits.listing(root, Screen(out=io.StringIO()), **more)


def test_what_is_told_of_each_visit_is_what_was_made(tmp_path: Path) -> None:
    made = [
        Made(1, fwhm=4.2),
        Made(2, "g", 3.1, 12.0, sensors=("0,0", "1,1"), mjd=59580.25),
        Made(3, noise=90.0),
    ]
    found = listed(repository(tmp_path / "repo", *made))
    assert [row["visit"] for row in found.rows] == [1, 2, 3]
    for one, row in zip(made, found.rows, strict=True):
        assert row["filter"] == one.band
        assert row["sensors"] == len(one.sensors)
        assert row["sensor"] == "1,1"
        assert row["fwhm_arcsec"] == pytest.approx(0.2 * one.fwhm, rel=2e-3)
        assert row["depth_mag"] == pytest.approx(one.depth, abs=0.01)
        assert row["mjd"] == (None if math.isnan(one.mjd) else pytest.approx(one.mjd, abs=1e-7))
        assert row["centre"] == pytest.approx([53.0, -27.0], abs=1e-4)


RULE = [
    # the sharpest, though another is deeper
    ([Made(2, fwhm=3.5), Made(3, fwhm=3.0), Made(4, fwhm=3.4, noise=10.0)], 3),
    # of equally sharp ones the deeper, then the earlier
    ([Made(2, fwhm=3.0), Made(3, fwhm=3.0, noise=25.0)], 3),
    ([Made(5, fwhm=3.0), Made(4, fwhm=3.0)], 4),
    # another band, too little overlap, much noise, the same exposure: never
    ([Made(2, fwhm=3.5), Made(3, "g", 3.0)], 2),
    ([Made(2, fwhm=3.5), Made(3, fwhm=3.0, shift=70.0)], 2),
    ([Made(2, fwhm=3.5, shift=60.0), Made(3, fwhm=3.0, shift=1e5)], 2),
    ([Made(2, fwhm=3.5), Made(3, fwhm=3.0, noise=45.0)], 2),
    ([Made(2, fwhm=3.5), Made(3, fwhm=3.0, mjd=59000.0)], 2),
    # with another sensor than most
    ([Made(2, fwhm=3.5), Made(3, fwhm=3.0, sensors=("0,0",))], 2),
    # a broader one, where there is no sharper
    ([Made(2, fwhm=5.0), Made(3, fwhm=6.0)], 2),
    ([Made(2, "g"), Made(3, shift=100.0)], None),
    ([], None),
]


@pytest.mark.parametrize(("others", "best"), RULE)
def test_the_best_template_is_chosen_by_the_rule(
    tmp_path: Path, others: list[Made], best: int | None
) -> None:
    root = repository(tmp_path / "repo", Made(1, mjd=59000.0, sensors=("1,1", "0,2")), *others)
    assert listed(root).best.get(1) == best
    assert listed(root, filter="r").best.get(1) == best
    with_it = listed(root, companion=1)
    named = [row["visit"] for row in with_it.rows if row["pair"].startswith("best")]
    assert named == ([best] if best else [])
    if best is None:
        assert "in r" in with_it.without[1]


def test_each_visit_is_judged_as_a_template(tmp_path: Path) -> None:
    root = repository(
        tmp_path / "repo",
        Made(1, mjd=59000.0),
        Made(2, "g"),
        Made(3, shift=96.0),
        Made(4, noise=60.0),
        Made(5, fwhm=3.8),
        Made(6, fwhm=3.0),
        Made(7, fwhm=4.4),
        Made(8, fwhm=2.9, mjd=59000.0),
    )
    found = {row["visit"]: row for row in listed(root, companion=1).rows}
    assert {visit: row["pair"] for visit, row in found.items()} == {
        1: "itself",
        2: "band g",
        3: "covers 25 %",
        4: "shallower by 0.8 mag",
        5: "good",
        6: "best",
        7: "larger PSF",
        8: "the same exposure",
    }
    assert found[3]["overlap_fraction"] == pytest.approx(0.25, abs=1e-4)
    assert {row["pair"] for row in listed(root, companion=1, min_coverage="0.2").rows} & {
        "covers 25 %"
    } == set()


def test_a_visit_without_a_wcs_has_no_place_and_is_no_template(tmp_path: Path) -> None:
    """Its made-up coordinates tell neither arcseconds nor what covers it."""
    root = repository(tmp_path / "repo", Made(1), Made(2, fwhm=3.0, placed=False), Made(3, fwhm=3.5))
    found = listed(root, companion=1)
    one = next(row for row in found.rows if row["visit"] == 2)
    assert [one[key] for key in ("fwhm_arcsec", "pixel_scale", "centre", "corners", "best")] == [None] * 5
    assert one["fwhm_pixels"] == pytest.approx(3.0, rel=2e-3)
    assert (found.best[1], found.without[2][:15]) == (3, "it has no WCS, ")
    assert [row["pair"] for row in found.rows] == ["itself", "visit 2 has no WCS", "best"]
    assert [row["overlap_fraction"] for row in found.rows] == [1.0, None, 1.0]
    other = listed(root, companion=2)
    assert [row["pair"] for row in other.rows] == ["visit 2 has no WCS", "itself", "visit 2 has no WCS"]
    shown = io.StringIO()
    other.show(Screen(out=shown))
    assert re.search(r"(?m)^2 +r +1 +- +", shown.getvalue())
    assert other.csv().splitlines()[2].startswith("2,r,")


def test_what_is_damaged_is_named_and_left_out(tmp_path: Path) -> None:
    root = repository(tmp_path / "repo", Made(1), Made(2), Made(3))
    broken = next((root / "calexp").glob("v2-fr/R22/S11.fits"))
    broken.write_bytes(broken.read_bytes()[:4000])
    next((root / "calexp").glob("v3-fr/R22/S11.fits")).unlink()
    found = listed(root)
    assert [row["visit"] for row in found.rows] == [1]
    assert [text.split(":")[0] for text in found.skipped] == ["visit 2 was not looked at"]
    with pytest.raises(RepositoryError, match="no visit 9"):
        listed(root, companion=9)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFRUN_")}
    command = [sys.executable, "-m", "diffrun.cli", "visits", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


#: Seeing with which the subset was simulated, arcsec.
SEEING = {230: 1.18, 250: 1.22, 185595: 0.97, 195529: 0.75, 195549: 0.77}


def test_the_subset_as_it_is_typed() -> None:
    lines = run("--with", "230").stdout.splitlines()
    assert " ".join(lines[0].split()) == (
        "visit band sensors seeing depth MJD best template overlap as template of 230"
    )
    table = {int(line.split()[0]): line.split() for line in lines[1:6]}
    assert {visit: float(words[3]) for visit, words in table.items()} == SEEING
    assert table[195529][-1] == "best"
    assert table[185595][-1] == "good"
    assert lines[-1].endswith("diffrun --science 230 --template 195529")


def test_the_same_as_csv_and_json() -> None:
    rows = list(csv.DictReader(io.StringIO(run("--csv").stdout)))
    assert {int(row["visit"]): int(row["best"]) for row in rows} == {
        230: 195529, 185595: 195529, 195529: 185595, 250: 195549, 195549: 250,
    }  # fmt: skip
    found = json.loads(run("--json", "--filter", "g").stdout)
    assert [row["visit"] for row in found["visits"]] == [250, 195549]
    assert len(found["visits"][0]["corners"]) == 4


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--with", "231"), 3, "no visit 231"),
        (("--filter", "z"), 3, "no filter 'z'"),
        (("--csv", "--json"), 2, "exclude each other"),
        (("--with", "x"), 2, "--with 'x' is not a visit"),
        (("/none",), 3, "/none is not a folder"),
        (("--min-coverage", "2"), 2, "from 0 to 1"),
    ],
)
def test_a_refusal_is_one_line(words: tuple[str, ...], code: int, told: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


def test_two_hundred_visits_are_listed_in_seconds(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    made = [
        Made(n, "ugr"[n % 3], float(random.uniform(3, 6)), shift=float(random.uniform(0, 200)))
        for n in range(1, 201)
    ]
    root = repository(tmp_path / "repo", *made)
    before = os.times()
    found = listed(root)
    after = os.times()
    assert len(found.rows) == 200
    assert after.children_user - before.children_user < 20
    by_visit = {one.visit: one for one in made}
    for visit, template in found.best.items():
        mine = by_visit[visit]
        able = [
            one for one in made
            if one.visit != visit and one.band == mine.band and abs(one.shift - mine.shift) <= SIDE / 2
        ]  # fmt: skip
        assert template == min(able, key=lambda one: one.fwhm).visit
