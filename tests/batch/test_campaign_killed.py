# SPDX-License-Identifier: BSD-3-Clause
"""Drivers, workers and engines killed at random, a disk that fills: at the end each pair is done or named.

The long form: ``DIFFRUN_KILL_PAIRS=300 DIFFRUN_KILLS=120``.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from pathlib import Path

from killing import all_is_there, begun, begun_again, fill, kill_one, mounted, number, prepare, works
from slurmdesk import Desk

PAIRS, KILLS = number("DIFFRUN_KILL_PAIRS", 14), number("DIFFRUN_KILLS", 8)


def test_each_pair_is_done_once_or_named(batch_source: Path, tmp_path: Path) -> None:
    at, chance = Desk(tmp_path, batch_source, None), random.Random(20)
    prepare(tmp_path, PAIRS)
    with mounted(tmp_path / "disk", 4 + PAIRS // 8) as disk:
        out = disk / "out"
        driver = begun(at, out)
        for turn in range(KILLS):
            if turn % 2:
                works(driver, out)
            time.sleep(chance.uniform(0.1, 0.8))
            if turn == KILLS // 2:
                filler = fill(disk)
                time.sleep(1.0)
                filler.unlink()
            kill_one(driver.pid, chance)
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.communicate(timeout=0.3)
                driver = begun(at, out)
        driver.communicate(timeout=30 + 10 * PAIRS)
        last = begun(at, out)
        told, errors = last.communicate(timeout=30 + 10 * PAIRS)

        assert last.returncode == 1 and not errors, errors
        assert f"{PAIRS + 1} pairs: {PAIRS} done, 1 failed (1 not there), 0 left" in told
        all_is_there(at, out, PAIRS)
        assert begun_again(out) >= KILLS // 2
