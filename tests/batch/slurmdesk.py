# SPDX-License-Identifier: BSD-3-Clause
"""An ordinary user's desk: the real launcher before a stand-in for the engine, with a Slurm or without."""

from __future__ import annotations

import contextlib
import json
import pwd
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from slurmcluster import USER, Cluster, as_user, need, of_the_user

VISITS = ((230, "r"), (250, "g"), (195529, "r"))


def make_repository(root: Path, visits: Sequence[tuple[int, str]] = VISITS) -> Path:
    """A Gen2 repository of obs_lsstSim with three visits; its calexps are no images."""
    root.mkdir(parents=True)
    (root / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    registry = sqlite3.connect(root / "registry.sqlite3")
    registry.execute("create table raw (id integer, visit int, filter text, raft text, sensor text)")
    registry.executemany("insert into raw values (1, ?, ?, '2,2', '1,1')", visits)
    registry.commit()
    registry.close()
    for visit, band in visits:
        folder = root / f"calexp/v{visit}-f{band}/R22"
        folder.mkdir(parents=True)
        (folder / "S11.fits").write_bytes(b"calexp of %d" % visit)
    return root


@dataclass(frozen=True)
class Desk:
    """A folder of the ordinary user's, with a repository in it, at a cluster (or at none)."""

    place: Path
    source: Path
    cluster: Cluster | None

    @property
    def environment(self) -> dict[str, str]:
        """What the user has set."""
        conf = {"SLURM_CONF": str(self.cluster.conf)} if self.cluster else {}
        path = "/usr/local/bin:/usr/bin:/bin" if self.cluster else str(self.place)
        return {"PATH": path, "HOME": str(self.place), "PYTHONPATH": str(self.source), **conf}

    def diffrun(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """``diffrun WORDS``."""
        line = ["-m", "diffrun.cli", *words]
        if self.cluster:
            return as_user([interpreter(), *line], self.environment | more)
        return subprocess.run(
            [sys.executable, *line], env=self.environment | more, capture_output=True, text=True, timeout=60
        )

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """``diffrun WORDS``, which goes on."""
        python, whose = (interpreter(), of_the_user()) if self.cluster else (sys.executable, {})
        return subprocess.Popen(
            [python, "-m", "diffrun.cli", *words],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **whose,
        )

    def submit(self, *words: str, name: str = "run", **more: str) -> subprocess.CompletedProcess[str]:
        """``diffrun submit`` of visit 230 minus 195529."""
        visits = ["--science", "230", "--template", "195529", "--repo", str(self.place / "repo")]
        output = ["--output", str(self.place / "out" / name)]
        return self.diffrun("submit", "--site", "slurm", *visits, *output, *words, **more)

    def run(self, name: str = "run") -> Path:
        """A run folder."""
        return self.place / "out" / name

    def starts(self) -> list[str]:
        """One line for each start of the engine."""
        path = self.place / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def ledger(self) -> list[dict[str, Any]]:
        """What happened to each pair of the campaign in ``out``."""
        return [json.loads(line) for line in (self.place / "out/ledger.jsonl").read_text().splitlines()]

    def leftovers(self) -> list[str]:
        """What lies beside the run folders that a dead run would leave."""
        return [path.name for path in (self.place / "out").glob(".*")]


@cache
def interpreter() -> str:
    """A Python like this one that an ordinary user can run: this one may be root's alone."""
    version = "import sys; print(sys.version_info[:2])"
    for program in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            done = as_user([program, "-c", version], {})
            if done.returncode == 0 and done.stdout.strip() == str(sys.version_info[:2]):
                return program
    pytest.skip(f"no Python {sys.version_info[0]}.{sys.version_info[1]} for an ordinary user")


def desk(place: Path, source: Path, cluster: Cluster | None) -> Desk:
    """A new folder for the user, with a repository."""
    make_repository(place / "repo")
    if cluster:
        user = pwd.getpwnam(USER)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(place)], check=True)
    return Desk(place, source, cluster)


def started(home: Path, accounting: bool, others: Sequence[str] = ()) -> Iterator[Cluster]:
    """A Slurm that is stopped at the end."""
    need()
    home.mkdir(mode=0o755)
    made = Cluster(home, accounting=accounting, others=others)
    try:
        made.start()
        yield made
    finally:
        made.stop()
