# SPDX-License-Identifier: BSD-3-Clause
"""A campaign as a job array of a real Slurm."""

from __future__ import annotations

import json
from pathlib import Path

from shifterdesk import IDENTITY, at_shifter
from slurmdesk import Desk

WORDS = (
    "--science",
    "230^250",
    "--template",
    "195529",
    "--site",
    "slurm",
    "--executor",
    "array",
    "--chunk",
    "1",
)


def words(at: Desk, *more: str) -> list[str]:
    return [
        "campaign",
        "run",
        *WORDS,
        "--repo",
        str(at.place / "repo"),
        "--output",
        str(at.place / "out"),
        *more,
    ]


def test_an_array_does_each_pair_once(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    submitted = at_slurm.diffrun(*words(at_slurm, "-c", "standin=gate", "--at-a-time", "1"))
    assert submitted.returncode == 0, submitted.stderr
    script = (at_slurm.place / "out/array/out.sbatch").read_text()
    assert "#SBATCH --array=0-1%1\n" in script
    at_slurm.cluster.wait_for(lambda: len(at_slurm.starts()) == 1)
    told = at_slurm.cluster.run("squeue", "-h", "-r", "-o", "%T %r").stdout.splitlines()
    assert sorted(told) == ["PENDING JobArrayTaskLimit", "RUNNING None"]
    second = at_slurm.diffrun(*words(at_slurm, "-c", "standin=gate"))
    assert second.returncode == 7 and "waits or runs: nothing more was submitted" in second.stderr
    assert len(at_slurm.starts()) == 1
    (at_slurm.place / "gate").touch()
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    status = at_slurm.diffrun("campaign", "status", str(at_slurm.place / "out"))
    assert "2 pairs: 2 done, 0 left" in status.stdout, logs(at_slurm)
    assert [each["state"] for each in at_slurm.ledger()] == ["started", "done"] * 2
    assert all(" job " in each["by"] for each in at_slurm.ledger())
    again = at_slurm.diffrun(*words(at_slurm, "-c", "standin=gate"))
    assert again.returncode == 0 and "2 done, 0 left" in again.stdout and at_slurm.cluster.idle()


def test_an_array_enters_an_image(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    more, variables = at_shifter(at_slurm)
    submitted = at_slurm.diffrun(*words(at_slurm, *more), **variables)
    assert submitted.returncode == 0, submitted.stderr
    text = (at_slurm.place / "out/array/out.sbatch").read_text()
    assert f"#SBATCH --image=id:{IDENTITY}\n#SBATCH --volume={at_slurm.place}/repo:/input:ro\n" in text
    assert f"--image id:{IDENTITY}" in text
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    assert [each["state"] for each in at_slurm.ledger()].count("done") == 2, logs(at_slurm)
    record = json.loads((at_slurm.place / "out/runs/250-195529/record.json").read_text())
    assert record["plan"]["container"]["id"] == f"sha256:{IDENTITY}"


def test_a_rejected_array_is_a_failure(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    done = at_slurm.diffrun(*words(at_slurm, "--partition", "nonesuch"))
    assert done.returncode == 7 and "invalid partition" in done.stderr and at_slurm.cluster.idle()
    assert "; nothing was submitted" in done.stderr
    assert not (at_slurm.place / "out/ledger.jsonl").exists()


def test_an_answer_that_was_lost(at_slurm: Desk) -> None:
    """Slurm has taken the array, but its command failed after that: the job is named."""
    assert at_slurm.cluster
    folder = at_slurm.place / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text('#!/bin/sh\n/usr/bin/sbatch "$@" >&2\nexit 1\n')
    (folder / "sbatch").chmod(0o755)
    line = words(at_slurm, "-c", "standin=gate")
    done = at_slurm.diffrun(*line, PATH=f"{folder}:/usr/bin:/bin")
    assert done.returncode == 7
    job = done.stderr.partition("; job ")[2].split()[0]
    assert job in at_slurm.cluster.run("squeue", "-h", "-o", "%A").stdout.split()
    again = at_slurm.diffrun(*line)
    assert again.returncode == 7 and f"job {job} of" in again.stderr
    assert at_slurm.cluster.run("scancel", job).returncode == 0
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)


def test_a_pair_of_an_array_may_take_so_long(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    submitted = at_slurm.diffrun(*words(at_slurm, "-c", "standin=gate", "--pair-time", "1"))
    assert submitted.returncode == 0, submitted.stderr
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    ended = [each["cause"] for each in at_slurm.ledger() if each["state"] == "failed"]
    assert ended == ["time limit", "time limit"], logs(at_slurm)


def test_a_cancelled_array_goes_on(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    submitted = at_slurm.diffrun(*words(at_slurm, "-c", "standin=gate"))
    assert submitted.returncode == 0, submitted.stderr
    at_slurm.cluster.wait_for(lambda: len(at_slurm.starts()) == 2)
    job = submitted.stdout.split()[-1]
    assert at_slurm.cluster.run("scancel", job).returncode == 0
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    (at_slurm.place / "gate").touch()
    again = at_slurm.diffrun(*words(at_slurm, "-c", "standin=gate"))
    assert again.returncode == 0 and "is done again: " in again.stdout
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)
    assert sorted(path.name for path in (at_slurm.place / "out/runs").iterdir()) == [
        "230-195529",
        "250-195529",
    ]


def test_there_are_no_more_tasks_than_an_array_may_have(at_slurm: Desk) -> None:
    assert at_slurm.cluster
    table = at_slurm.place / "pairs.csv"
    table.write_text("science,template\n" + "".join(f"{visit},195529\n" for visit in range(1, 1103)))
    asked = [*WORDS[4:], "--pairs", str(table), "--output", str(at_slurm.place / "out")]
    held = at_slurm.diffrun(
        "campaign", "run", *asked, "--repo", str(at_slurm.place / "repo"), "--at-a-time", "1"
    )
    assert held.returncode == 0, held.stderr
    assert at_slurm.cluster.run("scancel", held.stdout.split()[-1]).returncode == 0
    assert "#SBATCH --array=0-550%1\n" in (at_slurm.place / "out/array/out.sbatch").read_text()
    lists = sorted((at_slurm.place / "out/array/lists-1").iterdir())
    assert len(lists) == 551 and len(lists[0].read_text().splitlines()) == 3
    at_slurm.cluster.wait_for(at_slurm.cluster.idle)


def logs(at: Desk) -> str:
    return "\n".join(path.read_text() for path in Path(at.place, "out/array").glob("*.log"))
