# SPDX-License-Identifier: BSD-3-Clause
"""A campaign on Slurm whose workers, driver and node daemon are killed, and whose disk fills.

The long form: ``DIFFRUN_KILL_PAIRS=300 DIFFRUN_NODE_KILLS=30``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import (
    all_is_there,
    begun,
    begun_again,
    family,
    fill,
    kill,
    kill_one,
    mounted,
    number,
    prepare,
    states,
    works,
)
from slurmcluster import USER, Cluster
from slurmdesk import Desk

pytest.importorskip("parsl", reason="no Parsl: pip install 'diffrun[campaign]'")
ON_NODES = ("--site", "slurm", "--executor", "slurm", "--time", "01:00:00")
PAIRS, KILLS = number("DIFFRUN_KILL_PAIRS", 16), number("DIFFRUN_NODE_KILLS", 4)


@pytest.fixture
def at(cluster: Cluster, batch_source: Path, open_place: Path, tmp_path: Path) -> Iterator[Desk]:
    """The user's desk; the node has its daemon again at the end."""
    place = open_place / tmp_path.name
    place.mkdir()
    prepare(place, PAIRS)
    user = pwd.getpwnam(USER)
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(place)], check=True)
    yield Desk(place, batch_source, cluster)
    cluster.run("scancel", f"--user={USER}")
    cluster.wait_for(cluster.idle)
    cluster.wait_for(lambda: "idle" in cluster.run("sinfo", "-h", "-o", "%T").stdout)


def on_the_node(at: Desk, driver: int) -> list[int]:
    """The processes of the campaign that are not the driver's."""
    not_these, found = set(family(driver)), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if os.fsencode(f"HOME={at.place}") in path.read_bytes():
                found.append(int(path.parent.name))
    return [pid for pid in found if pid not in not_these]


def lose_the_node(at: Desk, driver: int) -> None:
    """End the node's daemon and what it runs; it comes back after a second."""
    assert at.cluster
    kill(at.cluster.pid("slurmd"))
    for pid in on_the_node(at, driver):
        kill(pid)
    time.sleep(1.0)
    at.cluster.daemon("slurmd")


def again(driver: subprocess.Popen[str], at: Desk, out: Path) -> subprocess.Popen[str]:
    """The driver, if it still lives after a while; else the same command again."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.communicate(timeout=1.0)
        return begun(at, out, *ON_NODES)
    return driver


def test_each_pair_is_done_once_though_nodes_are_lost(at: Desk) -> None:
    chance = random.Random(22)
    with mounted(at.place / "disk", 6 + PAIRS // 8 + KILLS) as disk:  # Parsl has logs of its own
        out = disk / "out"
        driver = begun(at, out, *ON_NODES)
        turns = itertools.count()
        # a kill may hit what does no pair just then: go on until so many have cost one
        while (turn := next(turns)) < KILLS or (begun_again(out) < KILLS and states(out)["done"] < PAIRS):
            works(driver, out)
            time.sleep(chance.uniform(0.0, 1.5))
            if turn == KILLS // 2:
                filler = fill(disk)
                time.sleep(1.0)
                filler.unlink()
            elif turn % 4 == 0 and (some := on_the_node(at, driver.pid)):
                kill(chance.choice(some))
            elif turn % 4 == 1:
                lose_the_node(at, driver.pid)
                driver.send_signal(signal.SIGKILL)
            else:
                kill_one(driver.pid, chance)
            driver = again(driver, at, out)
        driver.communicate(timeout=120 + 10 * PAIRS)
        last = begun(at, out, *ON_NODES)
        told, errors = last.communicate(timeout=120 + 10 * PAIRS)

        assert last.returncode == 1 and not errors, errors
        assert f"{PAIRS + 1} pairs: {PAIRS} done, 1 failed (1 not there), 0 left" in told
        assert max(path.stat().st_size for path in (out / "parsl").rglob("*")) < 2**20
        all_is_there(at, out, PAIRS)
        assert begun_again(out) >= KILLS
