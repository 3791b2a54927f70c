# SPDX-License-Identifier: BSD-3-Clause
"""How many pairs a campaign does at a time follows from what ``diffrun check`` tells of one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import diffrun
from diffrun.campaign import crew


def command(subset: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "diffrun.cli", *words, "--repo", str(subset)]
    source = str(Path(diffrun.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=subset.parent
    )


def test_as_check_tells(subset: Path) -> None:
    """The first pair that can be looked at: there is no visit 231."""
    (subset.parent / "pairs.csv").write_text("science,template\n231,195529\n230,195529\n")
    checked = command(subset, "check", "--science", "230", "--template", "195529", "--json")
    cost = json.loads(checked.stdout)["survey"]["cost"]
    planned = command(subset, "campaign", "plan", "--pairs", "pairs.csv", "--output", "none")
    assert planned.returncode == 0, planned.stderr
    found = re.search(r"takes about ([\d.]+) s .*, with ([\d.]+) GiB for it, by 230-195529", planned.stdout)
    assert found, planned.stdout
    assert abs(float(found[2]) - (1.25 * cost["memory_mib"] + 64) / 1024) < 0.006
    assert 0.3 < float(found[1]) / cost["seconds"] < 3  # it is measured anew
    assert not (subset.parent / "none").exists()


def test_workers_as_memory_and_processors_allow() -> None:
    assert crew.workers(1) == len(os.sched_getaffinity(0))
    assert crew.workers(1 << 60) == 1
