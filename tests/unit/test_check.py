# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun check`` as it is typed, and the same advice before a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffrun import capacity
from diffrun.engine.overlap import LARGEST_OFFSET
from diffrun.errors import AdviceError, UsageError
from diffrun.request import LIMITS, limit

GOOD = ("--science", "230", "--template", "195529")
NAMES = ["bands", "seeing", "overlap", "depth", "scale", "noise", "stars", "positions", "convolved"]
RESOURCES = ["time", "memory", "disk"]


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFRUN_")}
    command = [sys.executable, "-m", "diffrun.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=cwd)


def told(output: str) -> dict[str, str]:
    """Name -> verdict of the lines."""
    return {name: verdict for verdict, name in re.findall(r"^(ok|note|stop) +(\w+) ", output, re.MULTILINE)}


def test_a_good_pair(tmp_path: Path) -> None:
    done = run("check", *GOOD, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert told(done.stdout) == dict.fromkeys([*NAMES, *RESOURCES], "ok")
    assert "all is well" in done.stdout.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    assert run("check", *GOOD, "-q").stdout == ""


def test_a_pair_across_bands_has_notes() -> None:
    done = run("check", "--science", "230", "--template", "250")
    assert done.returncode == 0
    lines = told(done.stdout)
    assert {name for name, verdict in lines.items() if verdict == "note"} == {
        "bands",
        "seeing",
        "convolved",
        "template",
    }
    assert "195529 (r, 0.75 arcsec, overlap 95 %)" in done.stdout
    assert "with 4 notes" in done.stdout.splitlines()[-1]


def test_a_limit_stops_and_another_accepts() -> None:
    stopped = run("check", *GOOD, "--min-coverage", "0.99", "--max-memory", "0.1", "--min-stars", "60")
    assert (stopped.returncode, stopped.stderr) == (8, "")
    verdicts = told(stopped.stdout)
    assert {name for name, verdict in verdicts.items() if verdict == "stop"} == {"overlap", "memory", "stars"}
    assert stopped.stdout.splitlines()[-1].startswith("stop: 3 lines")
    remedies = re.findall(r"accept it with (--[a-z-]+) ([0-9.]+)$", stopped.stdout, re.MULTILINE)
    accepted = run("check", *GOOD, *(word for pair in remedies for word in pair))
    assert accepted.returncode == 0, accepted.stdout


def test_the_same_as_json() -> None:
    done = run("check", *GOOD, "--min-coverage", "0.99", "--json")
    assert done.returncode == AdviceError.exit_code
    found = json.loads(done.stdout)
    assert found["verdict"] == "stop"
    assert [check["name"] for check in found["checks"]] == [*NAMES, *RESOURCES]
    assert found["survey"]["template"]["visit"] == 195529
    assert len(found["survey"]["science"]["corners"]) == 4


def test_the_configuration_is_heard(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("config.subtract.kernel['AL'].detectionConfig.detThreshold = 1000.0\n")
    done = run("check", *GOOD, "--configfile", str(file), "--config", "convolveTemplate=False")
    lines = told(done.stdout)
    assert (lines["stars"], lines["convolved"]) == ("stop", "note")
    wrong = run("check", *GOOD, "--config", "convolveTemplat=False")
    assert wrong.returncode == 2
    assert "convolveTemplat" in wrong.stderr
    assert run("check", *GOOD, "--config", "getTemplate.doAddCalexpBackground=False").returncode == 0


def test_a_run_begins_with_the_same_lines_and_stops_where_they_say_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(*GOOD, "--output", str(out), "--min-coverage", "0.99")
    assert done.returncode == 8
    assert "stop overlap" in done.stdout
    assert done.stderr.startswith("diffrun: error: overlap: the template")
    assert "--min-coverage 0.94" in done.stderr
    assert list(tmp_path.iterdir()) == []
    lines = done.stdout.splitlines()
    shown = run("check", *GOOD, "--output", str(out), "--min-coverage", "0.99").stdout.splitlines()
    changing = re.compile(r"^\w+ +(time|memory|disk) ")
    assert [line for line in lines if line and not changing.match(line)] == [
        line for line in shown[:-1] if line and not changing.match(line)
    ]


def test_what_is_not_there_has_the_codes_of_a_run() -> None:
    assert run("check", "--science", "231", "--template", "250").returncode == 3
    assert run("check", "--science", "230").returncode == 2
    wrong = run("check", *GOOD, "--min-coverage", "95%")
    assert wrong.returncode == 2
    assert "--min-coverage '95%' is not understood; give a number from 0 to 1" in wrong.stderr


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e3", "0x1", "1_0", "٣", "2.", "."])
def test_limits_are_plain_numbers(text: str) -> None:
    if text == "2.":
        assert limit("max_offset", text) == text
        return
    for name in LIMITS:
        with pytest.raises(UsageError, match="is not understood"):
            limit(name, text)


def test_no_offset_is_accepted_that_the_engine_would_refuse() -> None:
    most = f"{LARGEST_OFFSET:g}"
    assert limit("max_offset", most) == most
    with pytest.raises(UsageError, match=f"from 0 to {most}$"):
        limit("max_offset", f"{most}.1")


def test_this_machine_has_memory() -> None:
    total, free = capacity.total_memory(), capacity.free_memory()
    assert total is not None
    assert total > 2**28
    assert free is None or free > 0
