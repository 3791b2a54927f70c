# SPDX-License-Identifier: BSD-3-Clause
"""``--band r --template best`` on the Twinkles subset, whose visits' seeing is known."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffrun

#: r: 230 (1.10 arcsec), 185595 (0.90), 195529 (0.68); g: 250 (1.13), 195549 (0.71).
PAIRS = {"r": ["230-195529", "185595-195529"], "g": ["250-195549"]}


def campaign(place: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "diffrun.cli", "campaign", *words, "--output", str(place / "out")]
    environment = {**os.environ, "PYTHONPATH": str(Path(diffrun.__file__).parents[1]), **variables}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)


def plan(subset: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return campaign(place, "plan", *words, "--repo", str(subset))


def names(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return sorted(re.findall(r"^\d+-\d+$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("band", ["r", "g"])
def test_every_visit_of_a_band_with_the_sharpest(subset: Path, tmp_path: Path, band: str) -> None:
    done = plan(subset, tmp_path, "--band", band, "--template", "best")
    assert names(done) == sorted(PAIRS[band])
    template = PAIRS[band][0].split("-")[1]
    assert f"template {template} for" in done.stdout
    assert f"{template} has no template: " in done.stdout


def test_named_visits(subset: Path, tmp_path: Path) -> None:
    done = plan(subset, tmp_path, "--science", "230^250", "--template", "best")
    assert names(done) == ["230-195529", "250-195549"]


def test_a_band_with_a_named_template(subset: Path, tmp_path: Path) -> None:
    done = plan(subset, tmp_path, "--band", "r", "--template", "230")
    assert names(done) == ["185595-230", "195529-230"]


def test_what_a_campaign_has_stays(subset: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/pairs.csv").write_text("science,template\n230,185595\n")
    done = plan(subset, tmp_path, "--band", "r", "--template", "best")
    assert names(done) == ["185595-195529", "230-185595"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--band", "r"), 2, "--template is missing; give a visit, or --template best"),
        (("--template", "best"), 2, "--science is missing; give visits, or --band"),
        (
            ("--band", "r", "--science", "230", "--template", "best"),
            2,
            "--band and --science exclude each other",
        ),
        (("--band", "r", "--filter", "r", "--template", "best"), 2, "--band and --filter exclude each other"),
        (
            ("--science", "230", "--template", "best", "--template-filter", "r"),
            2,
            "--template best and --template-filter exclude each other",
        ),
        (("--band", "z", "--template", "best"), 3, "has no visit in z; it has g, r"),
        (("--science", "231", "--template", "best"), 3, "no visit 231 in"),
        (("--band", "r", "--template", "230^250"), 2, "230^250"),
    ],
)
def test_what_cannot_be_meant(
    subset: Path, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    done = plan(subset, tmp_path, *words)
    assert done.returncode == status and said in done.stderr, done.stderr


def test_the_subset_is_unpacked_where_the_settings_say(tmp_path: Path) -> None:
    done = campaign(
        tmp_path, "plan", "--band", "g", "--template", "best", DIFFRUN_CACHE=str(tmp_path / "cache")
    )
    assert names(done) == PAIRS["g"]
    assert [path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()] == ["twinkles"]


def test_a_limit_is_that_of_every_pair(subset: Path, tmp_path: Path) -> None:
    pair = ("--science", "230", "--template", "195529", "--repo", str(subset), "--workers", "1")
    stopped = campaign(tmp_path, "run", *pair, "--min-coverage", "0.99")
    assert (stopped.returncode, "no overlap" in stopped.stdout) == (1, True), stopped.stdout
    wrong = campaign(tmp_path, "plan", *pair[:-2], "--max-noise", "x")
    assert (wrong.returncode, "--max-noise 'x' is not understood" in wrong.stderr) == (2, True)
