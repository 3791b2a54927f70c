# SPDX-License-Identifier: BSD-3-Clause
"""Drivers, workers and engines killed at random, a disk that fills: at the end each pair is done or named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurmdesk import Desk, make_repository
from standin.__main__ import fits

PAIRS, KILLS, TEMPLATE = 14, 8, 900


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def begun(at: Desk, out: Path) -> subprocess.Popen[str]:
    words = ["--pairs", str(at.place / "pairs.csv"), "--repo", str(at.place / "repo"), "--output", str(out)]
    line = [sys.executable, "-m", "diffrun.cli", "campaign", "run", *words, "--workers", "2"]
    return subprocess.Popen(
        line, env=at.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def family(pid: int) -> list[int]:
    """A process and all that it has begun."""
    found, new = [pid], [pid]
    while new:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{new[0]}/task/{new[0]}/children").read_text().split()
            found += map(int, children)
            new += map(int, children)
        new.pop(0)
    return found


def kill_one(pid: int, chance: random.Random) -> None:
    """End one process of a family, whichever it is."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(family(pid)), signal.SIGKILL)


def fill(place: Path) -> Path:
    """Leave no room."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return filler


def expected(at: Desk, visit: int) -> dict[str, bytes]:
    """The products of the stand-in, without it."""
    parts = (f"calexp/v{each}-fr/R22/S11.fits" for each in (visit, TEMPLATE))
    word = hashlib.sha256(b"-".join((at.place / "repo" / part).read_bytes() for part in parts)).hexdigest()
    return {name: fits(f"{name} {word[:40]}") for name in ("diffexp", "matchexp", "diaSrc")}


def ledger(out: Path) -> Iterator[dict[str, Any]]:
    for line in (out / "ledger.jsonl").read_bytes().splitlines():
        with contextlib.suppress(ValueError):  # cut short by the full disk
            yield json.loads(line)


def test_each_pair_is_done_once_or_named(batch_source: Path, tmp_path: Path, small_disk: Path) -> None:
    at = Desk(tmp_path, batch_source, None)
    visits = range(1, PAIRS + 1)
    make_repository(tmp_path / "repo", [(visit, "r") for visit in (*visits, TEMPLATE)])
    lines = [f"{visit},{TEMPLATE}\n" for visit in (*visits, 555)]
    (tmp_path / "pairs.csv").write_text("science,template\n" + "".join(lines))
    out, chance = small_disk / "out", random.Random(20)

    driver = begun(at, out)
    for kill in range(KILLS):
        time.sleep(chance.uniform(0.5, 2.0))
        if kill == KILLS // 2:
            filler = fill(small_disk)
            time.sleep(1.0)
            filler.unlink()
        kill_one(driver.pid, chance)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.communicate(timeout=0.3)
            driver = begun(at, out)
    driver.communicate(timeout=120)
    last = begun(at, out)
    told, errors = last.communicate(timeout=120)

    assert last.returncode == 1 and not errors, errors  # 555 is not there
    assert f"{PAIRS + 1} pairs: {PAIRS} done, 1 failed (1 not there), 0 left" in told
    done = Counter(each["pair"] for each in ledger(out) if each["state"] == "done")
    assert done == {f"{visit}-{TEMPLATE}": 1 for visit in visits}
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(done)
    for visit in visits:
        folder = out / f"runs/{visit}-{TEMPLATE}/deepDiff/v{visit}-fr/R22"
        assert {name: (folder / f"{name}-S11.fits").read_bytes() for name in expected(at, visit)} == expected(
            at, visit
        )
        assert (folder.parents[2] / "record.json").is_file()
