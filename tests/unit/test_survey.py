# SPDX-License-Identifier: BSD-3-Clause
"""The survey of two visits, against what the stack measured and against counted pixels."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffrun.engine.survey import of_configuration, overlap_fraction, parse_keys, survey
from diffrun.errors import UsageError


@dataclass(frozen=True)
class Flat:
    """A sky that is a plane, in degrees near (0, 0), shifted and turned."""

    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0
    scale: float = 1e-4

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[Any, Any]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        u, v = x - self.dx, y - self.dy
        return self.scale * (c * u - s * v), self.scale * (s * u + c * v)

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[Any, Any]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        u, v = ra / self.scale, dec / self.scale
        return c * u + s * v + self.dx, -s * u + c * v + self.dy


@dataclass(frozen=True)
class Frame:
    """What `overlap_fraction` looks at of a summary."""

    wcs: Flat
    shape: tuple[int, int] = (100, 200)
    xy0: tuple[int, int] = (0, 0)


@pytest.mark.parametrize(
    ("wcs", "fraction"),
    [
        (Flat(), 1.0),
        (Flat(dx=-50), 0.75),
        (Flat(dx=-50, dy=-50), 0.375),
        (Flat(dx=-200), 0.0),
        (Flat(dx=-1000), 0.0),
    ],
)
def test_overlap_of_shifted_frames(wcs: Flat, fraction: float) -> None:
    assert overlap_fraction(Frame(Flat()), Frame(wcs)) == pytest.approx(fraction, abs=1e-12)


def test_overlap_of_a_turned_frame_by_counting_pixels() -> None:
    science, template = Frame(Flat()), Frame(Flat(dx=30, dy=-12, angle=0.6), (90, 150), (20, 10))
    fine = 0.1
    x, y = np.meshgrid(np.arange(-0.5, 199.5, fine) + fine / 2, np.arange(-0.5, 99.5, fine) + fine / 2)
    u, v = template.wcs.sky_to_pixel(*science.wcs.pixel_to_sky(x, y))
    inside = (u > 19.5) & (u < 169.5) & (v > 9.5) & (v < 99.5)
    assert overlap_fraction(science, template) == pytest.approx(inside.mean(), abs=1e-4)


def test_overlap_with_the_other_side_of_the_sky_is_none() -> None:
    class Far(Flat):
        def pixel_to_sky(self, x: Any, y: Any) -> tuple[Any, Any]:
            return x * 0.0 + 180.0, y * 0.0

    assert overlap_fraction(Frame(Flat()), Frame(Far())) == 0.0


def test_keys_in_every_spelling() -> None:
    assert parse_keys(["visit=230", "raft=R22", "sensor=1,1"]) == {
        "visit": 230,
        "raft": "2,2",
        "sensor": "1,1",
    }
    with pytest.raises(UsageError, match="key=value"):
        parse_keys(["230"])


def test_what_a_configuration_says() -> None:
    recipe = Path(__file__).resolve().parents[2] / "configs/diffimconfig.py"
    assert of_configuration([recipe], []) == of_configuration([], [])
    threshold = "subtract.kernel['AL'].detectionConfig.detThreshold=7"
    changed = ["convolveTemplate=False", "mode=literal", threshold]
    assert of_configuration([recipe], changed) == (False, True, 7.0)
    # a field of the task that the recipe puts in another's place
    added = ["getTemplate.doAddCalexpBackground=False"]
    assert of_configuration([recipe], added) == of_configuration([], [])


def test_seeing_and_overlap_of_real_visits(shared_data: Path) -> None:
    found = survey(shared_data / "stripe82_repo", {"visit": 4192}, {"visit": 6377})
    # what the stack measured on the same models, to a thousandth
    assert found["science"]["fwhm_pixels"] == pytest.approx(2.618, rel=1.5e-3)
    assert found["template"]["fwhm_pixels"] == pytest.approx(2.456, rel=1.5e-3)
    assert found["science"]["fwhm_arcsec"] == pytest.approx(2.618 * 0.396, rel=3e-3)
    assert found["science"]["mjd"] == pytest.approx(52931.19692920, abs=1e-7)
    assert found["overlap_fraction"] > 0.999
    assert found["better"] == []


def test_the_sharper_visit_is_named(shared_data: Path) -> None:
    found = survey(shared_data / "stripe82_repo", {"visit": 14192}, {"visit": 4192, "raft": "2,2"})
    assert [one["visit"] for one in found["better"]] == [6377]
    assert found["better"][0]["overlap_fraction"] > 0.999


def test_twinkles_advice(subset: Path) -> None:
    across = survey(subset, {"visit": 230}, {"visit": 250})
    assert (across["science"]["filter"], across["template"]["filter"]) == ("r", "g")
    assert across["better"][0]["visit"] == 195529
    notes = [line["seen"] for line in across["checks"] if line["verdict"] == "note"]
    assert any("bands differ" in note for note in notes)
    assert any("larger PSF" in note for note in notes)
    assert across["warnings"] == []
    within = survey(subset, {"visit": 230}, {"visit": 195529})
    assert within["better"] == []
    assert {line["verdict"] for line in within["checks"] if line["name"] == "bands"} == {"ok"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "diffrun.engine.survey", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_program_prints_one_object_quickly(subset: Path) -> None:
    run(str(subset), "--science", "visit=230", "--template", "visit=250")
    before = time.monotonic()
    done = run(str(subset), "--science", "visit=230", "--template", "visit=250")
    assert time.monotonic() - before < 5.0
    assert done.returncode == 0
    assert set(json.loads(done.stdout)) == {
        "science",
        "template",
        "overlap_fraction",
        "convolved",
        "checks",
        "cost",
        "better",
        "warnings",
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--science", "visit=231", "--template", "visit=250"], 3, "no visit 231"),
        (["--science", "visit=abc", "--template", "visit=250"], 2, "Cannot cast value 'abc'"),
        (
            ["--science", "visit=230", "raft=22", "--template", "visit=250"],
            2,
            "Invalid raft identifier: '22'",
        ),
        (["--science", "visit=230", "--template", "visit=250", "filter=z"], 3, "no filter 'z'"),
    ],
)
def test_program_refuses_in_one_line(subset: Path, words: list[str], code: int, said: str) -> None:
    done = run(str(subset), *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_program_refuses_what_is_no_repository(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--science", "visit=230", "--template", "visit=250")
    assert done.returncode == 3
    assert "_mapper" in done.stderr
