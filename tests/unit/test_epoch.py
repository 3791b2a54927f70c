# SPDX-License-Identifier: BSD-3-Clause
"""One pair's rows of the light curves: known fluxes, and a row with a flag where nothing can be measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import Profile
from smallrepository import SIZE, SKY, STARS, XY0, exposure, make

from diffrun.engine import epoch
from diffrun.files.afw.writer import write_exposure

FLUX, AT = 5000.0, (XY0[0] + 128.3, XY0[1] + 90.6)
NJY = 3630780547701.0 / 1e12
NOISE = 10.0
FOLDER = "deepDiff/v1-fr/R22"


def star() -> tuple[float, float]:
    """The brightest star of the repository, parent pixels."""
    random = np.random.default_rng(1)
    places = random.uniform(25, SIZE - 26, (STARS, 2))
    x, y = places[np.argmax(10 ** random.uniform(3.6, 5.0, STARS))]
    return x + XY0[0], y + XY0[1]


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """A pair that is done: a source of known flux appeared; the template has stars and sky."""
    root = tmp_path / "run"
    (root / FOLDER).mkdir(parents=True)
    (root / "_parent").symlink_to(make(tmp_path / "repo"))
    profile = Profile(4.2, np.inf)
    calexp = exposure(1, "r", 4.2)
    image = np.random.default_rng(3).normal(0.0, NOISE, (SIZE, SIZE))
    image[90 - 20 + 1 : 90 + 22, 128 - 20 : 128 + 21] += FLUX * profile.stamp(0.3, -0.4)
    mask = np.zeros(image.shape, np.int32)
    mask[200:203, 200:203] = calexp.bits("SAT")
    difference = replace(
        calexp,
        image=image.astype(np.float32),
        variance=np.full(image.shape, NOISE**2, np.float32),
        mask=mask,
        mjd=59580.5,
    )
    write_exposure(root / FOLDER / "diffexp-S11.fits", difference)
    matched = exposure(2, "r", 4.2)
    matched = replace(matched, image=matched.image + np.float32(SKY))
    write_exposure(root / FOLDER / "matchexp-S11.fits", matched)
    files = {
        name: f"{FOLDER}/{short}-S11.fits"
        for name, short in (("differenceExp", "diffexp"), ("matchedExp", "matchexp"))
    }
    known = {"pair": "1-2", "visit": 1, "template": 2, "band": "r", "template_band": "r"}
    return {**known, "raft": "2,2", "sensor": "1,1", "folder": str(root), "files": files, "convolved": "none"}


def sky() -> epoch.Sky:
    """The new source, the star, a saturated place, a place beyond the edge, one far away."""
    x, y = np.array([AT, star(), (XY0[0] + 201.0, XY0[1] + 201.0), (XY0[0] + 100.0, XY0[1] - 8.0)]).T
    ra, dec = exposure(1, "r", 4.2).wcs.pixel_to_sky(x, y)
    return epoch.Sky(np.append(ra, 200.0), np.append(dec, 10.0))


def rows(run: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    block, notes = epoch.rows([run], sky())
    return [dict(zip(block, values, strict=True)) for values in zip(*block.values(), strict=True)], notes


def test_known_fluxes(run: dict[str, Any]) -> None:
    found, notes = rows(run)
    assert notes == [] and [row["object"] for row in found] == [1, 2, 3, 4]
    new, at_star, saturated, off = found
    assert list(new.values())[1:8] == ["1-2", 1, 2, "r", "r", "2,2", "1,1"]
    assert (new["x"], new["y"]) == pytest.approx(AT, abs=1e-3)
    assert new["mjd"] == 59580.5 and new["flags"] == ""
    assert new["flux_njy_error"] == pytest.approx(
        Profile(4.2, np.inf).sigma_of_flux(NOISE**2) * NJY, rel=0.01
    )
    assert abs(new["flux_njy"] - FLUX * NJY) < 4 * new["flux_njy_error"]
    assert abs(new["template_njy"]) < 5 * new["template_njy_error"]
    assert at_star["template_njy"] == pytest.approx(at_star["science_njy"], rel=0.02)
    assert at_star["template_njy"] > 50 * at_star["template_njy_error"]
    assert abs(at_star["flux_njy"]) < 4 * at_star["flux_njy_error"]
    assert "template_light" in at_star["flags"].split()
    assert "saturated" in saturated["flags"].split()
    assert off["flags"] == "off" and np.isnan(off["flux_njy"]) and off["mjd"] == 59580.5


def test_an_image_that_is_gone(run: dict[str, Any]) -> None:
    del run["files"]["matchedExp"]
    found, notes = rows(run)
    assert len(found) == 4 and all("no_template" in row["flags"].split() for row in found[:3])
    assert np.isfinite(found[0]["flux_njy"]) and np.isfinite(found[0]["science_njy"])
    assert notes == [
        f"1-2, 2,2 1,1: no template: {run['folder']} has no matchedExp; make the pair with that product"
    ]


def test_a_pair_that_failed(run: dict[str, Any]) -> None:
    for place in ("raft", "sensor", "band", "files"):
        run[place] = None
    found, notes = rows(run)
    assert notes == [] and [row["flags"] for row in found] == ["failed", "failed", "failed", "off"]
    assert found[0]["sensor"] == "1,1" and found[0]["band"] == "r" and np.isnan(found[0]["flux_njy"])
    run["visit"] = 77
    found, notes = rows(run)
    assert found == [] and notes[0].startswith("1-2 has images without rows: no visit 77 in")


def test_a_difference_that_is_gone(run: dict[str, Any]) -> None:
    Path(run["folder"], FOLDER, "diffexp-S11.fits").write_bytes(b"SIMPLE")
    found, notes = rows(run)
    assert found == [] and notes[0].startswith("1-2 has images without rows: ")
