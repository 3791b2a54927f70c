# SPDX-License-Identifier: BSD-3-Clause
"""Killing at random, filling a disk, and what must be there at the end all the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurmdesk import Desk, make_repository
from standin.__main__ import fits

TEMPLATE, NOT_THERE = 900, 5555


def number(name: str, usual: int) -> int:
    """A count of the test, which the environment may raise: ``DIFFRUN_KILL_PAIRS=300``."""
    return int(os.environ.get(name, usual))


@contextlib.contextmanager
def mounted(place: Path, mebibytes: int) -> Iterator[Path]:
    """A small file system."""
    place.mkdir()
    place.chmod(0o777)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=777", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def prepare(place: Path, pairs: int) -> None:
    """A repository of so many science visits, and a table of pairs with one that is not there."""
    visits = range(1, pairs + 1)
    make_repository(place / "repo", [(visit, "r") for visit in (*visits, TEMPLATE)])
    lines = [f"{visit},{TEMPLATE}\n" for visit in (*visits, NOT_THERE)]
    (place / "pairs.csv").write_text("science,template\n" + "".join(lines))


def begun(at: Desk, out: Path, *more: str) -> subprocess.Popen[str]:
    """The command, the same each time."""
    words = ["--pairs", str(at.place / "pairs.csv"), "--repo", str(at.place / "repo"), "--output", str(out)]
    return at.begin("campaign", "run", *words, "--workers", "2", "-c", "standin=slow", *more)


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


def kill(pid: int) -> None:
    """End a process, if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_one(pid: int, chance: random.Random) -> None:
    """End one process of a family, whichever it is."""
    kill(chance.choice(family(pid)))


def fill(place: Path) -> Path:
    """Leave no room."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return filler


def ledger(out: Path) -> Iterator[dict[str, Any]]:
    """Every whole line."""
    path = out / "ledger.jsonl"
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # cut short by the full disk
            yield json.loads(line)


def states(out: Path) -> Counter[str]:
    """How often the ledger says what."""
    return Counter(each["state"] for each in ledger(out))


def works(driver: subprocess.Popen[str], out: Path) -> None:
    """Wait until the driver has got something done, or has ended."""
    before, end = states(out)["done"], time.monotonic() + 120
    while driver.poll() is None and states(out)["done"] == before and time.monotonic() < end:
        time.sleep(0.1)


def begun_again(out: Path) -> int:
    """How often a pair was begun once more, as what did it was killed or had no room."""
    begun = Counter(each["pair"] for each in ledger(out) if each["state"] == "started")
    return begun.total() - len(begun)


def expected(repo: Path, visit: int) -> dict[str, bytes]:
    """The products of the stand-in, without it."""
    parts = (f"calexp/v{each}-fr/R22/S11.fits" for each in (visit, TEMPLATE))
    word = hashlib.sha256(b"-".join((repo / part).read_bytes() for part in parts)).hexdigest()
    return {name: fits(f"{name} {word[:40]}") for name in ("diffexp", "matchexp", "diaSrc")}


def all_is_there(at: Desk, out: Path, pairs: int) -> None:
    """Each pair done once, with the bytes of an undisturbed run, and nothing half done beside."""
    visits = range(1, pairs + 1)
    done = Counter(each["pair"] for each in ledger(out) if each["state"] == "done")
    assert done == {f"{visit}-{TEMPLATE}": 1 for visit in visits}
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(done)
    for visit in visits:
        run = out / f"runs/{visit}-{TEMPLATE}"
        folder, wanted = run / f"deepDiff/v{visit}-fr/R22", expected(at.place / "repo", visit)
        assert {name: (folder / f"{name}-S11.fits").read_bytes() for name in wanted} == wanted
        assert (run / "record.json").is_file()
