# SPDX-License-Identifier: BSD-3-Clause
"""A campaign by Parsl's workers: on this machine, and on the nodes of a real Slurm."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import fill, mounted, processes
from shifterdesk import IDENTITY, at_shifter
from slurmcluster import wait_for
from slurmdesk import Desk, desk, started

from diffrun.campaign import htex
from diffrun.capacity import free_memory

pytest.importorskip("parsl", reason="no Parsl: pip install 'diffrun[campaign]'")


def words(at: Desk, *more: str) -> list[str]:
    visits = ["--science", "230^250", "--template", "195529", "--repo", str(at.place / "repo")]
    return ["campaign", "run", *visits, "--output", str(at.place / "out"), *more]


def test_killed_it_leaves_no_worker_and_goes_on(batch_source: Path, tmp_path: Path) -> None:
    at = desk(tmp_path, batch_source, None)
    line = words(at, "--executor", "parsl", "--workers", "2", "-c", "standin=gate")
    driver = at.begin(*line, PATH="/usr/bin:/bin")
    wait_for(lambda: len(at.starts()) == 2, 90)
    assert len(processes(at)) >= 5
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_for(lambda: not processes(at), 90)
    assert [each["state"] for each in at.ledger()] == ["started", "started"]
    (at.place / "gate").touch()
    done = at.diffrun(*line, PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "and did not end" in done.stdout and "2 pairs: 2 done, 0 left" in done.stdout
    assert sorted(path.name for path in (at.place / "out/runs").iterdir()) == ["230-195529", "250-195529"]
    assert not processes(at)


def test_workers_here_are_as_many_as_the_forecast_allows(batch_source: Path, tmp_path: Path) -> None:
    """More than half of the free memory for a pair: one worker, however many processors there are."""
    at = desk(tmp_path, batch_source, None)
    free = free_memory()
    assert free is not None
    memory = 0.6 * free / 2**20 / 1.25
    (at.place / "cost").write_text(json.dumps({"seconds": 3, "memory_mib": memory, "disk_mib": 1}))
    done = at.diffrun(*words(at, "--executor", "parsl"), PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert " GiB for it, by 230-195529" in done.stdout and "2 pairs: 2 done, 0 left" in done.stdout
    (script,) = (at.place / "out/parsl/000/submit_scripts").glob("*.sh")
    assert "--max_workers_per_node=1 " in script.read_text()
    assert not processes(at)


def test_a_disk_that_is_full_is_named(batch_source: Path, tmp_path: Path) -> None:
    at = desk(tmp_path, batch_source, None)
    with mounted(tmp_path / "disk", 8) as disk:
        line = words(at, "--executor", "parsl", "--workers", "1", "--output", str(disk / "out"))
        assert at.diffrun(*line, PATH="/usr/bin:/bin").returncode == 0
        shutil.rmtree(disk / "out/runs/230-195529")
        filler = fill(disk)
        full = at.diffrun(*line, PATH="/usr/bin:/bin")
        assert full.returncode == 5 and "no room" in full.stderr, full.stderr
        assert not processes(at)
        filler.unlink()
        again = at.diffrun(*line, PATH="/usr/bin:/bin")
        assert again.returncode == 0 and "2 pairs: 2 done, 0 left" in again.stdout


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
    ended = [each for each in at_slurm.ledger() if each["state"] == "done"]
    assert len(ended) == 2 and all(" job " in each["by"] for each in ended)
    place = at_slurm.place / "out" / htex.FOLDER
    script = next(path for path in place.glob("000/submit_scripts/*") if path.suffix[1:].isdecimal())
    assert "#SBATCH --exclusive\n" in script.read_text() and "#SBATCH --export=NONE\n" in script.read_text()
    assert place.stat().st_mode & 0o077 == 0
    record = json.loads((at_slurm.place / "out/runs/230-195529/record.json").read_text())
    assert record["plan"]["container"]["id"] == f"sha256:{IDENTITY}"
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    again = at_slurm.diffrun(*line, **variables)
    assert again.returncode == 0 and "2 done, 0 left" in again.stdout
    assert len(at_slurm.ledger()) == 4


def both_under_way(at: Desk) -> tuple[list[str], subprocess.Popen[str]]:
    """A campaign on Slurm whose two pairs work until the gate is open: its command, and its driver."""
    assert at.cluster
    line = words(at, "--site", "slurm", "-c", "standin=gate", "--time", "00:05:00", "--executor", "slurm")
    driver = at.begin(*line)
    at.cluster.wait_for(lambda: len(at.starts()) == 2, 120)
    return line, driver


def test_stopped_on_slurm_it_cancels_its_jobs_and_goes_on(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    line, driver = both_under_way(at_slurm)
    driver.send_signal(signal.SIGINT)
    out, said = driver.communicate(timeout=120)
    assert driver.returncode == 130, said
    assert "stopped with 0 done and 2 left; the same command goes on from there" in out
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    assert [each.get("cause") for each in at_slurm.ledger()[2:]] == ["stopped", "stopped"]
    runs = at_slurm.place / "out/runs"
    assert not list(runs.glob("[!.]*"))
    (at_slurm.place / "gate").touch()
    again = at_slurm.diffrun(*line)
    assert again.returncode == 0 and "is done again: it failed: stopped" in again.stdout
    assert "2 pairs: 2 done, 0 left" in again.stdout
    assert sorted(path.name for path in runs.iterdir()) == ["230-195529", "250-195529"]


def test_a_job_that_is_cancelled_is_followed_by_another(at_slurm: Desk) -> None:
    """As when its time is over: the driver misses its pairs, asks for a new job, and has them done there."""
    assert at_slurm.cluster
    _, driver = both_under_way(at_slurm)
    first = at_slurm.cluster.run("squeue", "-h", "-o", "%A").stdout.strip()
    assert at_slurm.cluster.run("scancel", first).returncode == 0
    (at_slurm.place / "gate").touch()
    out, said = driver.communicate(timeout=120)
    assert driver.returncode == 0 and "2 pairs: 2 done, 0 left" in out, said
    ended = [each for each in at_slurm.ledger() if each["state"] == "done"]
    assert len(ended) == 2 and not any(each["by"].endswith(f" job {first}") for each in ended)


def test_a_job_of_parsl_that_slurm_refuses(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    line = words(at_slurm, "--site", "slurm", "--partition", "nonesuch", "--time", "00:05:00")
    done = at_slurm.diffrun(*line, "--executor", "slurm", "--workers", "1")
    assert done.returncode == 7 and "invalid partition" in done.stderr.lower(), done.stderr
    assert at_slurm.cluster.idle()


@pytest.fixture
def at_two_nodes(open_place: Path, batch_source: Path) -> Iterator[Desk]:
    """The user's desk at a cluster of two nodes."""
    for cluster in started(open_place / "two", accounting=False, others=("second",)):
        yield desk(Path(tempfile.mkdtemp(dir=open_place)), batch_source, cluster)


def test_one_job_of_two_nodes(at_two_nodes: Desk) -> None:
    """The site says two nodes; with a worker on each, both pairs are under way at once."""
    assert at_two_nodes.cluster
    site = at_two_nodes.place / "site.yaml"
    site.write_text("program: engine\nruntime: native\nbatch:\n  nodes: 2\n")
    line = words(at_two_nodes, "--site", str(site), "-c", "standin=gate", "--time", "00:05:00")
    driver = at_two_nodes.begin(*line, "--executor", "slurm", "--workers", "1")
    at_two_nodes.cluster.wait_for(lambda: len(at_two_nodes.starts()) == 2, 120)
    jobs = at_two_nodes.cluster.run("squeue", "-h", "-o", "%D %T").stdout.splitlines()
    assert jobs == ["2 RUNNING"]
    (at_two_nodes.place / "gate").touch()
    out, said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said + at_two_nodes.cluster.tail()
    assert "2 pairs: 2 done, 0 left" in out
    nodes = {each["by"].partition(":")[0] for each in at_two_nodes.ledger() if each["state"] == "done"}
    assert nodes == set(at_two_nodes.cluster.nodes)
