# SPDX-License-Identifier: BSD-3-Clause
"""The bench of very many pairs, with few: it kills a campaign half-way, and ends it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench/manypairs.py"


def test_half_a_campaign_and_the_other_half(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    line = [sys.executable, str(BENCH), "--pairs", "60", "--workers", "4", "--folder", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = dict(line.split(": ") for line in done.stdout.splitlines() if line.count(": ") == 1)
    assert numbers["done"] == "60.0" and float(numbers["restart halfway until the first pair, s"]) > 0
    assert not list(tmp_path.iterdir())
