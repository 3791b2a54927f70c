# SPDX-License-Identifier: BSD-3-Clause
"""One command for all sensors of a visit, two at a time: each has its products and its report."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import smallrepository

from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

SENSORS = ("1,0", "1,1", "1,2")
NAMES = [f"R22 S{sensor.replace(',', '')}" for sensor in SENSORS]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two sensors more, with the files of the first."""
    root = smallrepository.make(tmp_path / "repo")
    with sqlite3.connect(root / "registry.sqlite3") as registry:
        for visit, name, _ in smallrepository.VISITS:
            for sensor in SENSORS[::2]:
                registry.execute(
                    "insert into raw (visit, filter, raft, sensor) values (?, ?, '2,2', ?)",
                    (visit, name, sensor),
                )
                for dataset in ("calexp", "calexpBackground"):
                    old, new = (
                        root / relative(dataset, DataId(visit, name, "2,2", s)) for s in ("1,1", sensor)
                    )
                    shutil.copy(old, new)
    registry.close()
    return root


def launched(repository: Path, out: Path, *words: str) -> dict[str, bytes]:
    """The files of a run, by their names in it."""
    command = [sys.executable, "-m", "diffrun.cli", "--repo", str(repository), "--science", "1"]
    command += ["--template", "2", "--output", str(out), *words]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("DIFFRUN_")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [name for name in NAMES if f"\n{name} " in done.stdout] == NAMES
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_each_sensor_is_reported_on(repository: Path, tmp_path: Path) -> None:
    at_once = launched(repository, tmp_path / "two", "-j", "2")
    record = json.loads(at_once["record.json"])
    assert list(record["summaries"]) == NAMES
    for sensor, name in zip(SENSORS, NAMES, strict=True):
        suffix = name.replace(" ", "-")
        found = json.loads(at_once[f"summary-{suffix}.json"])
        assert found == record["summaries"][name]
        assert found["science"]["sensor"] == sensor
        assert at_once[found["files"]["picture"]].startswith(b"\x89PNG")
    one_by_one = launched(repository, tmp_path / "one")
    told = {"record.json", "log.txt", "ro-crate-metadata.json"}
    assert {name: data for name, data in at_once.items() if name not in told} == {
        name: data for name, data in one_by_one.items() if name not in told
    }
