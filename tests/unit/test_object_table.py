# SPDX-License-Identifier: BSD-3-Clause
"""The program that makes light curves: the objects of many runs, whatever the number of processes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_gather import make_run


def table(place: Path, runs: list[dict[str, object]], processes: int) -> tuple[list[dict[str, str]], str]:
    """The objects, and what was said."""
    (place / "list").write_text("".join(json.dumps(run) + "\n" for run in runs))
    words = ["list", "objects.csv", "curves.csv", "--radius", "0.5", "--processes", str(processes)]
    line = [sys.executable, "-m", "diffrun.engine.lightcurves", *words]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader((place / "objects.csv").read_text().splitlines())), done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_sources_of_many_runs_are_objects(tmp_path: Path, processes: int) -> None:
    """70 runs with 5 sources each at the same places; one catalogue cannot be read, and none has images."""
    runs = [make_run(tmp_path / str(visit), visit, 5) for visit in range(70)]
    (tmp_path / "7/deepDiff/diaSrc-S11.fits").write_bytes(b"SIMPLE")
    rows, said = table(tmp_path, runs, processes)
    assert [(row["object"], row["sources"]) for row in rows] == [(str(k), "69") for k in range(1, 6)]
    np.testing.assert_allclose(
        [float(row["ra"]) for row in rows], np.degrees(0.5 + 1e-4 * np.arange(5)), atol=1e-8
    )
    assert [float(row["snr"]) for row in rows] == pytest.approx(
        [round((30 + n) / (40 + n), 2) for n in range(5)]
    )
    assert said.count("has images without rows") == 70
    assert said.count("the sources of 7-9 are left out: ") == 1
    assert (tmp_path / "curves.csv").read_text().count("\n") == 1
