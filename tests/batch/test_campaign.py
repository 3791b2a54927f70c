# SPDX-License-Identifier: BSD-3-Clause
"""A campaign on this machine: what is done stays done, what is not is done by the same command."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as arrow
import pytest
from killing import processes
from slurmcluster import wait_for
from slurmdesk import Desk, desk

WORDS = ("--science", "230^250", "--template", "195529")


@pytest.fixture
def at_home(batch_source: Path, tmp_path: Path) -> Desk:
    """A desk without a cluster."""
    return desk(tmp_path, batch_source, None)


def words(at: Desk, *more: str) -> list[str]:
    return [*WORDS, "--repo", str(at.place / "repo"), "--output", str(at.place / "out"), *more]


def products(at: Desk) -> dict[str, bytes]:
    root = at.place / "out" / "runs"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*-S11.*")}


def begun(at: Desk, *more: str) -> subprocess.Popen[str]:
    """A campaign whose engine is at work."""
    child = at.begin("campaign", "run", *words(at, *more))
    wait_for(lambda: len(at.starts()) == 2)
    return child


def test_done_once_and_again_only_what_is_gone(at_home: Desk) -> None:
    planned = at_home.diffrun("campaign", "plan", *words(at_home))
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.splitlines() == ["2 pairs: 0 done, 2 left", "230-195529", "250-195529"]
    assert not (at_home.place / "out").exists()
    first = at_home.diffrun("campaign", "run", *words(at_home))
    assert first.returncode == 0, first.stderr
    assert "2 pairs: 2 done, 0 left" in first.stdout
    before = products(at_home)
    assert len(before) == 8
    assert at_home.diffrun("campaign", "run", *words(at_home)).returncode == 0
    assert len(at_home.starts()) == 2 and len(at_home.ledger()) == 4
    shutil.rmtree(at_home.place / "out/runs/230-195529")
    again = at_home.diffrun("campaign", "run", *words(at_home))
    assert "230-195529 is done again: its run folder is gone, or is of another plan" in again.stdout
    assert len(at_home.starts()) == 3 and products(at_home) == before


def test_a_finished_folder_is_known_by_its_digest(at_home: Desk) -> None:
    """Without its ledger a campaign makes nothing twice; what is of another plan is to be done."""
    assert at_home.diffrun("campaign", "run", *words(at_home)).returncode == 0
    before = products(at_home)
    (at_home.place / "out/ledger.jsonl").unlink()
    again = at_home.diffrun("campaign", "run", *words(at_home))
    assert again.returncode == 0 and "2 pairs: 2 done, 0 left" in again.stdout
    assert len(at_home.starts()) == 2 and products(at_home) == before
    record = at_home.place / "out/runs/230-195529/record.json"
    digest = json.loads(record.read_text())["plan"]["digest"]
    record.write_text(record.read_text().replace(digest, "sha256:" + 64 * "0"))
    other = at_home.diffrun("campaign", "status", str(at_home.place / "out"))
    assert "2 pairs: 1 done, 1 left" in other.stdout


def test_a_terminal_has_a_moving_line(at_home: Desk) -> None:
    child, terminal = pty.fork()
    if child == 0:
        line = [sys.executable, "-m", "diffrun.cli", "campaign", "run", *words(at_home, "-c", "standin=gate")]
        os.execve(sys.executable, line, at_home.environment | {"TERM": "xterm", "COLUMNS": "120"})
    seen, wanted = "", ["0 of 2 done, 2 running", "2 pairs: 2 done, 0 left"]
    with contextlib.suppress(OSError):  # the end of the child
        while part := os.read(terminal, 65536).decode():
            seen += part
            if wanted[0] in seen:
                (at_home.place / "gate").touch()
    assert os.waitpid(child, 0)[1] == 0, seen
    os.close(terminal)
    assert all(words_ in seen for words_ in wanted) and "\x1b[2K" in seen


def test_report(at_home: Desk) -> None:
    assert at_home.diffrun("campaign", "run", *words(at_home)).returncode == 0
    told = at_home.diffrun("campaign", "report", str(at_home.place / "out"))
    assert told.returncode == 0, told.stderr
    rows = list(csv.DictReader((at_home.place / "out/report/pairs.csv").read_text().splitlines()))
    assert [(row["pair"], row["band"], row["sensor"], row["sources"]) for row in rows] == [
        ("230-195529", "r", "1,1", "3"),
        ("250-195529", "g", "1,1", "3"),
    ]
    same = arrow.read_table(at_home.place / "out/report/pairs.parquet").to_pylist()
    assert [(row["pair"], row["science"], row["sources"]) for row in same] == [
        ("230-195529", 230, 3),
        ("250-195529", 250, 3),
    ]


def test_failures_by_cause(at_home: Desk) -> None:
    table = at_home.place / "pairs.csv"
    table.write_text("science,template\n230,195529\n231,195529\n")
    asked = [
        "--pairs",
        str(table),
        "--repo",
        str(at_home.place / "repo"),
        "--output",
        str(at_home.place / "out"),
    ]
    done = at_home.diffrun("campaign", "run", *asked, "--json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert (summary["pairs"], summary["done"], summary["left"]) == (2, 1, 0)
    assert [(each["pair"], each["cause"]) for each in summary["failed"]] == [("231-195529", "not there")]
    assert "no visit 231" in summary["failed"][0]["message"]
    lines = len(at_home.ledger())
    assert at_home.diffrun("campaign", "run", *asked).returncode == 1
    assert len(at_home.ledger()) == lines
    assert at_home.diffrun("campaign", "run", *asked, "--again").returncode == 1
    assert len(at_home.ledger()) == lines + 2
    status = at_home.diffrun("campaign", "status", str(at_home.place / "out"))
    assert "2 pairs: 1 done, 1 failed (1 not there), 0 left" in status.stdout


def test_stopped_it_says_how_to_go_on(at_home: Desk) -> None:
    child = begun(at_home, "--workers", "2", "-c", "standin=gate")
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped with 0 done and 2 left; the same command goes on from there" in out
    assert [each["cause"] for each in at_home.ledger()[2:]] == ["stopped", "stopped"]
    assert not list((at_home.place / "out/runs").iterdir())
    (at_home.place / "gate").touch()
    done = at_home.diffrun("campaign", "run", *words(at_home, "-c", "standin=gate"))
    assert done.returncode == 0 and "it failed: stopped" in done.stdout


def test_killed_it_leaves_no_child_and_goes_on(at_home: Desk) -> None:
    child = begun(at_home, "--workers", "2", "-c", "standin=gate")
    second = at_home.diffrun("campaign", "run", *words(at_home, "-c", "standin=gate"))
    assert second.returncode == 5 and "another command works on" in second.stderr
    assert len(processes(at_home)) >= 5  # the command, two of its children, the engine of each
    child.kill()
    child.communicate()
    wait_for(lambda: not processes(at_home))
    (at_home.place / "gate").touch()
    done = at_home.diffrun("campaign", "run", *words(at_home, "-c", "standin=gate"))
    assert done.returncode == 0 and "and did not end" in done.stdout
    names = sorted(path.name for path in (at_home.place / "out/runs").iterdir())
    assert names == ["230-195529", "250-195529"]


def test_another_recipe_is_another_campaign(at_home: Desk) -> None:
    assert at_home.diffrun("campaign", "run", *words(at_home)).returncode == 0
    other = at_home.diffrun("campaign", "run", *words(at_home, "-c", "standin=bad"))
    assert other.returncode == 2 and "is a campaign with another config" in other.stderr
