# SPDX-License-Identifier: BSD-3-Clause
"""Tables, ids and configuration, by the program: the cases U42, U55 and U58 to U64 of docs/cases.md."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from benchpair import from_file, header, light, noisy, stars

from diffrun.engine import program
from diffrun.engine.makecalexp import deposit
from diffrun.engine.survey import survey
from diffrun.files.afw.catalog import read_catalog, write_catalog
from diffrun.files.afw.reader import read_exposure
from diffrun.repository.dataid import DataId

N = 256
RECIPE = ("--configfile", Path(__file__).parents[2] / "configs" / "diffimconfig.py")
SRC = "src/v230-fr/R22/S11.fits"
STARS, CHANGE = stars(N, 40), (150.3, 125.6, 8000.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Visit 230 with one change, and 250, without a WCS, turned by 10 degrees; both of one sensor."""
    folder = tmp_path_factory.mktemp("cases")
    angle, places = np.radians(10), STARS.copy()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places[:, :2] = (places[:, :2] - 127.5) @ turn.T + 127.5
    fits.writeto(folder / "230.fits", noisy(light((N, N), 4.2, [*STARS, CHANGE]), 2), header(N))
    fits.writeto(folder / "250.fits", noisy(light((N, N), 3.4, places), 3))
    for visit, fwhm in ((230, 4.2), (250, 3.4)):
        made = from_file(folder / f"{visit}.fits", visit, psf_fwhm=fwhm)
        deposit.write(folder / "repo", DataId(visit, "r", "2,2", "1,1"), made)
    return folder / "repo"


@pytest.fixture
def repo(original, tmp_path):
    return shutil.copytree(original, tmp_path / "repo")


@pytest.fixture
def run(capsys):
    """Run the program; gives its status and what it said on both streams."""
    root = logging.getLogger()
    before, level = root.handlers, root.level

    def call(repo, *words, science="visit=230", template="visit=250"):
        ids = ["--id", *science.split(), "--templateId", *template.split()]
        status = program.main([str(word) for word in (repo, *ids, "--output", repo.parent / "out", *words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    yield call
    root.handlers, root.level = before, level
    logging.captureWarnings(False)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def changed(path, change):
    write_catalog(path, change(read_catalog(path)))


def nowhere(sources):
    """As a table that was written before the astrometry."""
    columns = dict(sources.columns)
    columns |= {name: np.full(len(sources), np.nan) for name in ("coord_ra", "coord_dec")}
    return dataclasses.replace(sources, columns=columns)


def without_slot(sources):
    aliases = {name: value for name, value in sources.aliases.items() if name != "slot_Centroid"}
    return dataclasses.replace(sources, aliases=aliases)


def test_u55_sources_without_a_place_on_the_sky(repo, run):
    """Positions are those of the pixels; and the template has no WCS, through the files as well."""
    changed(repo / SRC, nowhere)
    status, _, err = run(repo, *RECIPE)
    assert status == 0, err
    assert "WARN: The template has no WCS: both are aligned by" in err
    found = read_catalog(repo.parent / "out/deepDiff/v230-fr/R22/diaSrc-S11.fits")
    distance = np.hypot(found["slot_Centroid_x"] - CHANGE[0], found["slot_Centroid_y"] - CHANGE[1])
    assert distance.min() < 1
    assert np.isfinite(found["coord_ra"]).all()
    difference = read_exposure(repo.parent / "out/deepDiff/v230-fr/R22/diffexp-S11.fits")
    np.testing.assert_allclose(difference.wcs.crval, (53.009, -27.4389))


def test_the_advice_on_an_image_without_a_wcs_tells_nothing_of_the_sky(original):
    found = survey(original, {"visit": 230}, {"visit": 250})
    checks = {check["name"]: check for check in found["checks"]}
    assert found["overlap_fraction"] is None
    assert found["science"]["fwhm_arcsec"] == pytest.approx(0.93, abs=0.02)  # of a Moffat profile
    assert found["template"]["fwhm_arcsec"] is None
    assert "centre" not in found["template"]
    assert checks["overlap"]["verdict"] == "note"
    assert "aligned by the asterisms of their stars" in checks["overlap"]["remedy"]
    assert "arcsec" not in checks["seeing"]["seen"]
    assert not {"positions", "scale"} & set(checks)


def test_u42_inputs_are_not_touched_and_a_second_run_is_the_same(repo, run):
    before = contents(repo)
    assert run(repo, *RECIPE)[0] == 0
    first = contents(repo.parent / "out")
    assert run(repo, *RECIPE)[0] == 0
    assert contents(repo) == before
    assert contents(repo.parent / "out") == first


def test_u55_a_table_without_its_slots_is_refused_before_the_work(repo, run):
    changed(repo / SRC, without_slot)
    status, _, err = run(repo, *RECIPE)
    assert status == 1
    assert re.search(
        r"FATAL: Failed on .*S11.fits has no slot_Centroid_x and no slot_Centroid_y; process", err
    )
    assert "Source selection" not in err


def shown(run, repo, science):
    status, out, err = run(repo, "--show", "data", science=science)
    return status, re.findall(r"^id dataRef\.dataId = (.*)$", out, re.MULTILINE), err


def test_u58_every_spelling_is_the_same_sensor_and_nothing_matches_in_silence(repo, run):
    spellings = (
        "raft=2,2 sensor=1,1",
        "raft=R22 sensor=S11",
        "raftName=R22 detectorName=S11",
        "raft=2,2 ccd=1,1",
    )
    found = [shown(run, repo, f"visit=230 {words}")[1] for words in spellings]
    assert found == [[str(DataId(230, "r", "2,2", "1,1"))]] * 4
    _, none, err = shown(run, repo, "visit=230 raft=2,3 sensor=1,1")
    assert not none
    assert "visit 230 has no raft '2,3' sensor '1,1'; it has R22 S11" in err
    status, _, err = shown(run, repo, "visit=230 raft=22")
    assert status == 2
    assert "write it as raft=2,2 or raft=R22" in err


def test_u59_a_visit_is_completed_if_it_is_unique_else_its_sensors_are_taken_or_listed(repo, run):
    assert shown(run, repo, "visit=230")[1] == [str(DataId(230, "r", "2,2", "1,1"))]
    _, none, err = shown(run, repo, "visit=231")
    assert not none
    assert re.search(r"no visit 231 in .*; the nearest of its 2 visits: 230 \(r\), 250 \(r\)", err)
    registry = sqlite3.connect(repo / "registry.sqlite3")
    registry.execute(
        "insert into raw (visit, channel, snap, sensor, ccd, raft, filter) "
        "values (230, '0,0', 0, '1,2', '1,2', '2,2', 'r')"
    )
    registry.commit()
    registry.close()
    other = repo / SRC.replace("src", "calexp").replace("S11", "S12")
    shutil.copy(repo / SRC.replace("src", "calexp"), other)
    assert len(shown(run, repo, "visit=230")[1]) == 2


def test_u60_the_template_takes_full_ids(repo, run):
    status, _, err = run(repo, *RECIPE, template="visit=250 raft=2,2 sensor=1,1 filter=z")
    assert status == 1
    assert "visit 250 has no filter 'z'; it has r" in err


def test_u61_another_configuration_for_one_output(repo, run):
    run(repo, *RECIPE, template="visit=8")
    status, _, err = run(repo, *RECIPE, "-c", "convolveTemplate=False")
    assert status == 1
    assert "config.convolveTemplate: True is stored, False is asked for" in err
    assert "give another --output, or the stored settings, or --clobber-config" in err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("doMerg=True", r"no config field: doMerg; did you mean doMerge \(now True\)\?"),
        ("subtract.kernel.active.kernelSiz=3", r"did you mean subtract.kernel\['AL'\].kernelSize"),
        ("doPreConvolve=True", "doPreConvolve"),
    ],
)
def test_u63_misspelt_and_unsupported_keys_are_named_with_the_nearest(repo, run, setting, words):
    status, _, err = run(repo, "-c", setting)
    assert status == 2
    assert re.search(words, err)
    assert re.search(r"error: (-c: |.*\(-c\) )", err)


@pytest.mark.parametrize("key", ["tract=0", "patch=0,0"])
def test_u64_keys_of_other_datasets_are_refused_by_name(repo, run, key):
    status, _, err = run(repo, science=f"visit=230 {key}")
    assert status == 2
    assert repr(key.partition("=")[0]) in err
