# SPDX-License-Identifier: BSD-3-Clause
"""STILTS, which is TOPCAT without its windows, reads the catalogue: every value, flag and unit."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as arrow
import pytest
from astropy.io import fits

#: Of STILTS' name of a column's class: NumPy's type.
CLASSES = {"Double": "f8", "Float": "f4", "Integer": "i4", "Long": "i8", "Boolean": "b1"}


def stilts(path: Path, *commands: str) -> list[dict[str, str]]:
    """The rows of a table after some commands of ``tpipe``."""
    if not shutil.which("stilts"):
        pytest.skip("no program stilts: apt-get install stilts")
    words = [f"cmd={command}" for command in commands]
    argv = ["stilts", "tpipe", f"in={path}", *words, "omode=out", "ofmt=csv", "out=-"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(done.stdout.splitlines()))


def test_every_value_of_the_catalogue(products: Path) -> None:
    path = products / "diaSrc-S11.fits"
    rows = stilts(path, "explodecols flags")
    with fits.open(path) as hdus:
        table, header = hdus[1].data, hdus[1].header
        names = [name for name in table.names if name != "flags"]
        flags = [header[f"TFLAG{number}"] for number in range(1, table["flags"].shape[1] + 1)]
    assert list(rows[0]) == [*(f"flags_{number}" for number in range(1, len(flags) + 1)), *names]
    assert len(rows) == len(table) > 3
    for name in names:
        found = np.array([row[name] or "nan" for row in rows]).astype(table[name].dtype.newbyteorder("="))
        assert np.array_equal(found, table[name], equal_nan=found.dtype.kind == "f"), name
    flat = arrow.read_table(products / "diaSrc-S11.parquet")
    for number, flag in enumerate(flags):
        found = np.array([row[f"flags_{number + 1}"] == "true" for row in rows])
        assert np.array_equal(found, table["flags"][:, number]), flag
        assert np.array_equal(found, flat[flag].to_numpy()), flag
    assert len(flags) > 60


def test_units_and_types(products: Path) -> None:
    path = products / "diaSrc-S11.fits"
    told = {row["Name"]: row for row in stilts(path, "meta")}
    with fits.open(path) as hdus:
        columns = hdus[1].columns
    for column in columns[1:]:
        assert told[column.name]["Units"] == (column.unit or "")
        assert CLASSES[told[column.name]["Class"]] == column.dtype.newbyteorder("=").str[1:], column.name
    assert told["coord_ra"]["Units"] == "rad"
    assert told["flags"]["Shape"] == f"({columns[0].format.removesuffix('X')})"
