# SPDX-License-Identifier: BSD-3-Clause
"""One run as a job of a real Slurm, submitted by an ordinary user: it ends done, or is done again once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shifterdesk import IDENTITY, at_shifter
from slurmcluster import Cluster, as_user
from slurmdesk import Desk, desk, interpreter, started


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    """The number that a submission printed."""
    assert done.returncode == 0, done.stderr
    found: str = json.loads(done.stdout)["job"]
    return found


def until(desk: Desk, job: str, word: str) -> None:
    """Wait for a state of a job."""
    assert desk.cluster
    desk.cluster.wait_for(lambda: desk.cluster is not None and desk.cluster.state(job) == word)


def running(desk: Desk, starts: int = 1) -> None:
    """Wait until the engine has been started so many times."""
    assert desk.cluster
    desk.cluster.wait_for(lambda: len(desk.starts()) >= starts)


def gone(desk: Desk) -> None:
    """Wait until a job that Slurm already calls cancelled has cleared its files away."""
    assert desk.cluster
    desk.cluster.wait_for(lambda: not desk.leftovers())


def open_gate(desk: Desk) -> None:
    (desk.place / "gate").touch()


def test_a_job_makes_the_run_folder(at_slurm: Desk) -> None:
    submitted = at_slurm.submit()
    assert submitted.returncode == 0, submitted.stderr
    waited = at_slurm.diffrun("wait", str(at_slurm.run()))
    assert waited.returncode == 0, waited.stderr
    record = json.loads((at_slurm.run() / "record.json").read_text())
    job = record["batch"]["SLURM_JOB_ID"]
    log = at_slurm.run().with_name(f"run.slurm-{job}.log")
    assert f"job        {job}" in submitted.stdout and f"log        {log}" in submitted.stdout
    assert f"diffrun: job {job} on" in log.read_text()
    script = at_slurm.run().with_name("run.sbatch")
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert oct(script.stat().st_mode & 0o777) == "0o644"
    assert "done" in at_slurm.diffrun("status", str(at_slurm.run())).stdout
    again = at_slurm.submit()
    assert again.returncode == 0 and "finished before" in again.stdout
    assert len(at_slurm.starts()) == 1 and not at_slurm.leftovers()


def test_names_that_a_shell_or_slurm_would_misread(at_slurm: Desk) -> None:
    name = "a b \"q\" 'x' %j%% $HOME;`id`,é#!"
    assert at_slurm.submit(name=name).returncode == 0
    assert at_slurm.diffrun("wait", str(at_slurm.run(name))).returncode == 0
    record = json.loads((at_slurm.run(name) / "record.json").read_text())
    log = f"{name}.slurm-{record['batch']['SLURM_JOB_ID']}.log"
    assert [path.name for path in at_slurm.run().parent.glob("*.log")] == [log]


def test_submitted_twice_it_is_one_job_and_can_be_cancelled(at_slurm: Desk) -> None:
    job = job_of(at_slurm.submit("--json", "-c", "standin=gate"))
    running(at_slurm)
    assert job_of(at_slurm.submit("--json", "-c", "standin=gate")) == job
    assert f"job {job} RUNNING" in at_slurm.diffrun("status", str(at_slurm.run())).stdout
    assert at_slurm.diffrun("cancel", str(at_slurm.run())).returncode == 0
    waited = at_slurm.diffrun("wait", str(at_slurm.run()))
    assert waited.returncode == 7 and "it was cancelled" in waited.stderr
    assert not at_slurm.run().exists()
    gone(at_slurm)
    open_gate(at_slurm)
    assert job_of(at_slurm.submit("--json", "-c", "standin=gate")) != job
    assert at_slurm.diffrun("wait", str(at_slurm.run())).returncode == 0
    assert len(at_slurm.starts()) == 2


def test_a_time_limit_leaves_nothing_and_is_named(at_slurm: Desk) -> None:
    site = at_slurm.place / "short.yaml"
    site.write_text("program: engine\nruntime: native\nbatch:\n  time: '00:01:00'\n  grace: 59\n")
    job = job_of(at_slurm.submit("--json", "--site", str(site), "-c", "standin=gate"))
    running(at_slurm)
    waited = at_slurm.diffrun("wait", str(at_slurm.run()))
    assert waited.returncode == 7
    assert f"job {job} ended without" in waited.stderr and "the time limit was near" in waited.stderr
    assert not at_slurm.run().exists() and not at_slurm.leftovers()


def test_requeued_it_is_done_once(at_slurm: Desk) -> None:
    job = job_of(at_slurm.submit("--json", "-c", "standin=gate"))
    running(at_slurm)
    assert at_slurm.cluster
    assert at_slurm.cluster.run("scontrol", "requeue", job).returncode == 0
    open_gate(at_slurm)
    begin_now(at_slurm.cluster, job)
    assert at_slurm.diffrun("wait", str(at_slurm.run())).returncode == 0
    assert [line.split()[-1] for line in at_slurm.starts()] == ["None", "None"]  # the engine sees no Slurm
    record = json.loads((at_slurm.run() / "record.json").read_text())
    assert record["batch"]["SLURM_RESTART_COUNT"] == "1"
    log = at_slurm.run().with_name(f"run.slurm-{job}.log").read_text()
    assert log.count(f"diffrun: job {job} on") == 2 and "begun again" in log
    assert not at_slurm.leftovers()


def begin_now(cluster: Cluster, job: str) -> None:
    """Spare a job that was put back its two minutes of rest."""
    cluster.wait_for(lambda: cluster.state(job) == "PENDING")
    time.sleep(1.5)  # a start within the second of the end is "already killed" to slurmd
    assert cluster.run("scontrol", "update", f"jobid={job}", "StartTime=now").returncode == 0


def test_a_lost_node_costs_one_more_start(at_slurm: Desk) -> None:
    job = job_of(at_slurm.submit("--json", "-c", "standin=gate"))
    running(at_slurm)
    cluster = at_slurm.cluster
    assert cluster
    os.kill(cluster.pid("slurmd"), signal.SIGKILL)
    for pid in processes_of(job):
        os.kill(pid, signal.SIGKILL)
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=down", "reason=test")
    cluster.wait_for(lambda: cluster.state(job) == "PENDING")
    open_gate(at_slurm)
    cluster.daemon("slurmd")
    cluster.run("scontrol", "update", f"nodename={cluster.host}", "state=resume")
    cluster.wait_for(lambda: cluster.run("sinfo", "-h", "-o", "%T").stdout.strip() == "idle")
    time.sleep(3)  # until Slurm has told the new node to end what the lost one ran
    begin_now(cluster, job)
    waited = at_slurm.diffrun("wait", str(at_slurm.run()))
    assert waited.returncode == 0, waited.stderr
    assert len(at_slurm.starts()) == 2
    assert not at_slurm.leftovers()


def processes_of(job: str) -> list[int]:
    """The daemon of a job's step and everything that it started."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (each / "cmdline").read_bytes(), (each / "environ").read_bytes()
        except OSError:
            continue
        if f"slurmstepd: [{job}.batch]".encode() in command or f"SLURM_JOB_ID={job}\0".encode() in environ:
            found.append(int(each.name))
    return found


def test_a_failed_pair_says_why(at_slurm: Desk) -> None:
    job_of(at_slurm.submit("--json", "-c", "standin=bad"))
    waited = at_slurm.diffrun("wait", str(at_slurm.run()))
    assert waited.returncode == 7
    assert "FAILED with exit code 4 (no stars)" in waited.stderr
    assert "no stars" not in at_slurm.diffrun("status", str(at_slurm.run())).stderr


def test_what_slurm_refuses(at_slurm: Desk) -> None:
    refused = at_slurm.submit("--partition", "nonesuch")
    assert refused.returncode == 7 and "invalid partition" in refused.stderr.lower()
    assert at_slurm.run().with_name("run.sbatch").exists()
    assert at_slurm.diffrun("status", str(at_slurm.run())).returncode == 2


def test_a_job_that_slurm_has_forgotten(at_slurm: Desk) -> None:
    job_of(at_slurm.submit("--json"))
    assert at_slurm.diffrun("wait", str(at_slurm.run())).returncode == 0
    noted = at_slurm.run().with_name("run.jobs")
    line = json.loads(noted.read_text())
    noted.write_text(json.dumps(line | {"job": "999999"}) + "\n")
    found = json.loads(at_slurm.diffrun("status", "--json", str(at_slurm.run())).stdout)
    assert (found[0]["standing"], found[0]["state"]) == ("done", "UNKNOWN")
    at_slurm.run().rename(at_slurm.run("gone"))
    found = json.loads(at_slurm.diffrun("status", "--json", str(at_slurm.run())).stdout)
    assert found[0]["standing"] == "not done" and found[0]["cause"] == "Slurm no longer knows it"


@pytest.fixture
def accounted(open_place: Path, batch_source: Path) -> Iterator[Desk]:
    """The user's desk at a cluster with accounting."""
    for program in ("slurmdbd", "mariadbd"):
        if not Path(f"/usr/sbin/{program}").exists():
            pytest.skip(f"no {program}: apt-get install slurmdbd mariadb-server")
    for cluster in started(open_place / "accounted", accounting=True):
        yield desk(Path(tempfile.mkdtemp(dir=open_place)), batch_source, cluster)


def test_states_come_from_accounting(accounted: Desk) -> None:
    job = job_of(accounted.submit("--json", "-c", "standin=bad"))
    assert accounted.diffrun("wait", str(accounted.run())).returncode == 7
    cluster = accounted.cluster
    assert cluster
    ask = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", job)
    cluster.wait_for(lambda: "FAILED" in cluster.run(*ask).stdout)
    code = "from diffrun.batch.slurm import state; import sys; print(state(sys.argv[1]))"
    said = as_user([interpreter(), "-c", code, job], accounted.environment).stdout
    assert "word='FAILED'" in said and "code=4" in said and "source='sacct'" in said


def test_a_job_that_enters_an_image(at_slurm: Desk) -> None:
    words, variables = at_shifter(at_slurm)
    job = job_of(at_slurm.submit(*words, "--json", **variables))
    waited = at_slurm.diffrun("wait", str(at_slurm.run()))
    assert waited.returncode == 0, waited.stderr
    text = at_slurm.run().with_name("run.sbatch").read_text()
    assert f"#SBATCH --image=id:{IDENTITY}\n" in text
    assert f"#SBATCH --volume={at_slurm.place}/repo:/input:ro\n" in text
    record = json.loads((at_slurm.run() / "record.json").read_text())
    assert (record["plan"]["runtime"], record["batch"]["SLURM_JOB_ID"]) == ("shifter", job)
    assert record["plan"]["container"]["id"] == f"sha256:{IDENTITY}"


def test_the_plugin_refuses_at_submission(at_slurm: Desk) -> None:
    script = at_slurm.place / "bad.sbatch"
    for line, words in (
        ("--image=docker:none:1", "Failed to lookup image"),
        (f"--image=id:{IDENTITY}\n#SBATCH --volume=/nonesuch:/input", "Invalid Volume Map"),
    ):
        script.write_text(f"#!/bin/bash\n#SBATCH {line}\ntrue\n")
        code = "import sys, pathlib; from diffrun.batch import slurm; slurm.submit(pathlib.Path(sys.argv[1]))"
        done = as_user([interpreter(), "-c", code, str(script)], at_slurm.environment)
        assert done.returncode == 1 and words in done.stderr
