# SPDX-License-Identifier: BSD-3-Clause
"""A campaign by Parsl's workers: on this machine, and on the nodes of a real Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shifterdesk import IDENTITY, at_shifter
from slurmdesk import Desk, desk

from diffrun.campaign import htex

pytest.importorskip("parsl", reason="no Parsl: pip install 'diffrun[campaign]'")


def words(at: Desk, *more: str) -> list[str]:
    visits = ["--science", "230^250", "--template", "195529", "--repo", str(at.place / "repo")]
    return ["campaign", "run", *visits, "--output", str(at.place / "out"), *more]


def ledger(at: Desk) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (at.place / "out/ledger.jsonl").read_text().splitlines()]


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes(at: Desk) -> list[str]:
    """Command lines with the desk's source tree or folder in them or in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            told = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if os.fsencode(at.place) in told and int(path.name) != os.getpid() and state != "Z":
            found.append(f"{path.name} {told[:200]!r}")
    return found


def test_killed_it_leaves_no_worker_and_goes_on(batch_source: Path, tmp_path: Path) -> None:
    at = desk(tmp_path, batch_source, None)
    line = words(at, "--executor", "parsl", "--workers", "2", "-c", "standin=gate")
    driver = subprocess.Popen(
        [sys.executable, "-m", "diffrun.cli", *line],
        env={**at.environment, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(at.starts()) == 2)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_for(lambda: not processes(at))
    assert [each["state"] for each in ledger(at)] == ["started", "started"]
    (at.place / "gate").touch()
    done = at.diffrun(*line, PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "and did not end" in done.stdout and "2 pairs: 2 done, 0 left" in done.stdout
    assert sorted(path.name for path in (at.place / "out/runs").iterdir()) == ["230-195529", "250-195529"]
    assert not processes(at)


def test_a_folder_that_parsl_cannot_be_told(batch_source: Path, tmp_path: Path) -> None:
    at = desk(tmp_path / "a b", batch_source, None)
    done = at.diffrun(*words(at, "--executor", "parsl"))
    assert done.returncode == 2 and "cannot be said to Parsl" in done.stderr


def test_whole_nodes_of_slurm(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    more, variables = at_shifter(at_slurm)
    line = words(at_slurm, *more, "--executor", "slurm", "--time", "00:05:00")
    done = at_slurm.diffrun(*line, **variables)
    assert done.returncode == 0, done.stderr + at_slurm.cluster.tail()
    assert "2 pairs: 2 done, 0 left" in done.stdout
    ended = [each for each in ledger(at_slurm) if each["state"] == "done"]
    assert len(ended) == 2 and all(" job " in each["by"] for each in ended)
    place = at_slurm.place / "out" / htex.FOLDER
    script = next(path for path in place.glob("000/submit_scripts/*") if path.suffix[1:].isdecimal())
    assert "#SBATCH --exclusive\n" in script.read_text() and "#SBATCH --export=NONE\n" in script.read_text()
    assert place.stat().st_mode & 0o077 == 0
    record = json.loads((at_slurm.place / "out/runs/230-195529/record.json").read_text())
    assert record["plan"]["container"]["id"] == f"sha256:{IDENTITY}"
    at_slurm.cluster.wait_for(lambda: not at_slurm.cluster.run("squeue", "--noheader").stdout.strip())
    again = at_slurm.diffrun(*line, **variables)
    assert again.returncode == 0 and "2 done, 0 left" in again.stdout
    assert len(ledger(at_slurm)) == 4
