# SPDX-License-Identifier: BSD-3-Clause
"""One catalogue of the sources of many runs: each value is that of its own catalogue and exposure."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as arrow
import pytest
from smallrepository import exposure

from diffrun.engine import gather
from diffrun.files.afw.catalog import Catalog, Field, write_catalog
from diffrun.files.afw.writer import write_exposure

NAMES = ("base_SdssCentroid_x", "base_SdssCentroid_y", "base_PsfFlux_flux", "base_PsfFlux_fluxSigma")


def make_run(folder: Path, visit: int, count: int) -> dict[str, object]:
    """A run folder of one sensor with so many sources."""
    fields = (
        Field("id", "L"), Field("coord_ra", "Angle", "rad"), Field("coord_dec", "Angle", "rad"),
        Field("parent", "L"), *(Field(name) for name in NAMES), Field("base_PixelFlags_flag_edge", "Flag"),
    )  # fmt: skip
    n = np.arange(count)
    columns = {
        "id": visit * 1000 + n,
        "coord_ra": 0.5 + 1e-4 * n,
        "coord_dec": -0.3 - 1e-4 * n,
        "parent": 0 * n,
    }
    columns |= {name: 10.0 * (i + 1) + n for i, name in enumerate(NAMES)}
    columns["base_PixelFlags_flag_edge"] = n == 1
    place = folder / "deepDiff"
    place.mkdir(parents=True)
    aliases = {"slot_Centroid": "base_SdssCentroid"}
    write_catalog(place / "diaSrc-S11.fits", Catalog(fields, columns, aliases))
    write_exposure(place / "diffexp-S11.fits", replace(exposure(visit, "r", 4.0), mjd=59580.0 + visit))
    known = {
        "pair": f"{visit}-9",
        "visit": visit,
        "template": 9,
        "band": "r",
        "raft": "2,2",
        "sensor": "1,1",
    }
    return {**known, "mjd": None, "folder": str(folder), "files": {"diaSrc": "deepDiff/diaSrc-S11.fits"}}


def test_every_source_with_its_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        make_run(tmp_path / str(visit), visit, count) for visit, count in ((1, 3), (2, 0), (3, 2), (4, 2))
    ]
    (tmp_path / "4/deepDiff/diaSrc-S11.fits").write_bytes(b"SIMPLE")
    listed = tmp_path / "list"
    listed.write_text("".join(json.dumps(run) + "\n" for run in runs))
    assert gather.main([str(listed), str(tmp_path / "all.csv")]) == 0
    assert capsys.readouterr().err.startswith("4-9 is not in the catalogue: ")
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == ["1000", "1001", "1002", "3000", "3001"]
    row = rows[4]
    assert (row["pair"], row["band"], row["sensor"], row["edge"]) == ("3-9", "r", "1,1", "1")
    assert float(row["mjd"]) == pytest.approx(59583.0)
    assert float(row["ra"]) == pytest.approx(math.degrees(0.5001)) and float(row["x"]) == 11.0
    assert float(row["flux"]) == 31.0 and row["dipole"] == ""
    assert float(row["flux_njy"]) == pytest.approx(31.0 * 3630780547701.0 / 1e12)
    assert float(row["flux_njy_error"]) == pytest.approx(41.0 * 3630780547701.0 / 1e12)
    same = arrow.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["id"] for row in same] == [1000, 1001, 1002, 3000, 3001]
    assert (same[4]["visit"], same[4]["edge"], same[4]["dipole"], same[4]["flux"]) == (3, True, None, 31.0)
