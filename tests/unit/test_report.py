# SPDX-License-Identifier: BSD-3-Clause
"""The report of a run folder made by hand: noise, sources, kernel and stars are known beforehand."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as arrow
import pytest
from PIL import Image

from diffrun.engine.metadata import to_boost
from diffrun.engine.view import read_images
from diffrun.files.afw.catalog import Catalog, Field, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import GaussianPsf
from diffrun.files.afw.wcs import MADE_UP, from_header
from diffrun.files.afw.writer import write_exposure, write_kernel
from diffrun.repository import paths
from diffrun.repository.dataid import DataId

N = 220
XY0 = (1400, 1600)
SCIENCE, TEMPLATE = DataId(230, "r", "2,2", "1,1"), DataId(250, "g", "2,2", "1,1")
CARDS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 53.0, "CRVAL2": -27.4,
    "CRPIX1": 2000.0, "CRPIX2": 2000.0,
    "CD1_1": -0.2 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.2 / 3600, "RADESYS": "ICRS",
}  # fmt: skip
METADATA = {
    "imageDifference:subtract.nCandidates": 40,
    "imageDifference:subtract.nCandidatesUsed": 33,
    "imageDifference:subtract.convolved": "template",
    "imageDifference:subtract.ALKernelSize": 5,
}


def exposure(seed: int, sigma: float) -> Exposure:
    image = np.random.default_rng(seed).normal(0, sigma, (N, N)).astype(np.float32)
    variance = np.full((N, N), 100, np.float32)
    wcs = from_header({**CARDS, "CRPIX1": 2000.0 - XY0[0], "CRPIX2": 2000.0 - XY0[1]}, XY0)
    return Exposure(image, np.zeros((N, N), np.int32), variance, wcs, GaussianPsf((25, 25), 2.0), XY0)


def dia_sources() -> Catalog:
    columns = {
        "id": np.arange(1, 4), "coord_ra": np.full(3, 0.9), "coord_dec": np.full(3, -0.5),
        "parent": np.zeros(3, int),
        "base_SdssCentroid_x": XY0[0] + np.array([50.0, 100.0, 150.0]),
        "base_SdssCentroid_y": XY0[1] + np.array([60.0, 110.0, 160.0]),
        "base_PsfFlux_flux": np.array([900.0, -700.0, 20.0]), "base_PsfFlux_fluxSigma": np.full(3, 50.0),
        "ip_diffim_DipoleFit_flag_classification": np.array([False, False, True]),
    }  # fmt: skip
    kinds = ["L", "Angle", "Angle", "L", "D", "D", "D", "F", "Flag"]
    fields = [Field(name, kind) for name, kind in zip(columns, kinds, strict=True)]
    return Catalog(fields, columns, {"slot_Centroid": "base_SdssCentroid", "slot_PsfFlux": "base_PsfFlux"})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run whose variance plane is 4 % too large."""
    repository, out = tmp_path / "repository", tmp_path / "out folder"
    for root in (repository, out):
        root.mkdir()
    (repository / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    registry = sqlite3.connect(repository / "registry.sqlite3")
    registry.execute("create table raw (visit int, filter text, raft text, sensor text)")
    for data_id in (SCIENCE, TEMPLATE):
        registry.execute("insert into raw values (?, ?, ?, ?)", tuple(data_id.as_dict().values()))
        put(repository, "calexp", data_id, exposure(data_id.visit, 10.0))
    registry.commit()
    registry.close()
    (out / "_parent").symlink_to(repository)
    put(out, "deepDiff_differenceExp", SCIENCE, exposure(3, 10.0 / 1.02))
    put(out, "deepDiff_matchedExp", SCIENCE, exposure(4, 5.0))
    write_catalog(out / paths.relative("deepDiff_diaSrc", SCIENCE), dia_sources())
    kernel = LinearCombinationKernel(
        np.full((1, 5, 5), 0.04), np.full((1, 1), 1.05), (1400.0, 1600.0, 1620.0, 1820.0)
    )
    write_kernel(out / paths.relative("deepDiff_kernel", SCIENCE), kernel)
    (out / paths.relative("deepDiff_metadata", SCIENCE)).write_bytes(to_boost(METADATA))
    return out


def put(root: Path, dataset: str, data_id: DataId, content: Exposure) -> None:
    path = root / paths.relative(dataset, data_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_exposure(path, content)


def run(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "diffrun.engine.report", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_summary_and_picture(out: Path) -> None:
    done = run(out, "--science", "visit=230", "--template", "visit=250")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((out / "summary.json").read_text())
    assert found["science"] == SCIENCE.as_dict()
    assert found["template"] == TEMPLATE.as_dict()
    assert found["noise_ratio"] == pytest.approx(1 / 1.02, rel=0.015)
    assert found["lag1_correlation"] == pytest.approx(0.0, abs=0.015)
    assert found["kernel"] == {
        "sum": 1.05,
        "size": 5,
        "order": None,
        "candidates": 40,
        "used": 33,
        "rejected": 7,
    }
    assert found["sources"] == {"total": 3, "positive": 1, "negative": 1, "dipole": 1, "flagged": 0}
    assert found["convolved"] == "template"
    assert found["residual_chi2"] is None
    assert found["files"]["differenceExp"] == "deepDiff/v230-fr/R22/diffexp-S11.fits"
    regions = (out / found["files"]["diaSrc_regions"]).read_text()
    assert [regions.count(f"{{{kind}}}") for kind in ("positive", "negative", "dipole")] == [1, 1, 1]
    table = arrow.read_table(out / "deepDiff/v230-fr/R22/diaSrc-S11.parquet")
    assert table["base_PsfFlux_flux"].to_pylist() == [900.0, -700.0, 20.0]
    with Image.open(out / "picture.png") as image:
        assert image.size[0] == 1920
    first = (out / "picture.png").read_bytes()
    run(out, "--science", "visit=230", "--template", "visit=250")
    assert (out / "picture.png").read_bytes() == first


def test_without_a_wcs_nothing_is_said_of_the_sky(out: Path) -> None:
    put(out, "deepDiff_differenceExp", SCIENCE, exposure(3, 9.8).replace(metadata={MADE_UP: True}))
    done = run(out, "--science", "visit=230")
    assert (done.returncode, done.stderr) == (0, "")
    lines = (out / "deepDiff/v230-fr/R22/diaSrc-S11.reg").read_text().splitlines()
    assert lines[2] == "image"
    assert [line.split(" ")[0] for line in lines[3:]] == [
        f"point({x:.8f},{y:.8f})" for x, y in ((51, 61), (101, 111), (151, 161))
    ]
    captions = read_images(out, {"visit": 230}, None, None, "deep").scene.captions
    assert captions[2] == "difference: FWHM 4.71 pixels"
    assert not any("arcsec" in caption for caption in captions)


@pytest.mark.parametrize("gone", ["matchedExp", "diaSrc", "kernel", "metadata"])
def test_runs_that_wrote_less_are_reported_too(out: Path, gone: str) -> None:
    (out / paths.relative(f"deepDiff_{gone}", SCIENCE)).unlink()
    done = run(out, "--science", "visit=230", "--suffix=-R22-S11")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((out / "summary-R22-S11.json").read_text())
    assert gone not in found["files"]
    assert found["template"] is None
    assert (out / "picture-R22-S11.png").is_file()


def test_a_run_that_found_no_source_says_so(out: Path) -> None:
    found = dia_sources()
    nothing = Catalog(
        found.fields, {name: values[:0] for name, values in found.columns.items()}, found.aliases
    )
    write_catalog(out / paths.relative("deepDiff_diaSrc", SCIENCE), nothing)
    assert run(out, "--science", "visit=230").returncode == 0
    assert set(json.loads((out / "summary.json").read_text())["sources"].values()) == {0}


def test_refusals_are_one_line(out: Path) -> None:
    (out / paths.relative("deepDiff_metadata", SCIENCE)).write_text("no metadata")
    done = run(out, "--science", "visit=230")
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
    (out / paths.relative("deepDiff_differenceExp", SCIENCE)).unlink()
    done = run(out, "--science", "visit=230")
    assert done.returncode == 3
    assert "deepDiff_differenceExp" in done.stderr


def waiting(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "diffrun.engine.report", str(out), "--science", "visit=230"]
    command += ["--template", "visit=250", "--prefix", "-"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_images_are_looked_at_before_the_sources_are_there(out: Path) -> None:
    made = ("picture.png", "summary.json")
    run(out, "--science", "visit=230", "--template", "visit=250")
    expected = [(out / name).read_bytes() for name in made]
    catalogue = out / paths.relative("deepDiff_diaSrc", SCIENCE)
    for early in (True, False):
        for name in made:
            (out / name).unlink()
        catalogue.rename(out / "later")
        with waiting(out) as child:
            assert child.stdin
            if early:
                child.stdin.write("images deep\n")
                child.stdin.flush()
            (out / "later").rename(catalogue)
            said, errors = child.communicate("written deep\n", timeout=60)
        assert (child.returncode, errors, said.split("\n")[0]) == (0, "", str(out / made[0]))
        assert [(out / name).read_bytes() for name in made] == expected


@pytest.mark.parametrize("told", ["", "images deep\n"])
def test_a_report_that_nobody_wants_any_more_ends(out: Path, told: str) -> None:
    with waiting(out) as child:
        assert child.communicate(told, timeout=60) == ("", "")
    assert child.returncode == 0
    assert not (out / "summary.json").exists()
