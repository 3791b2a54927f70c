# SPDX-License-Identifier: BSD-3-Clause
"""A manager of Parsl that has lost its queues ends, and what tells of anything else goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import diffrun

LOG = """
import logging, sys, time
log = logging.getLogger("parsl.executors.high_throughput.process_worker_pool")
for _ in range(3):
    try:
        raise {error}("gone")
    except Exception:
        log.exception("said")
"""


@pytest.mark.parametrize(
    ("error", "status"),
    [("EOFError", -signal.SIGKILL), ("BrokenPipeError", -signal.SIGKILL), ("ValueError", 0)],
)
def test_a_manager_without_queues_ends(tmp_path: Path, error: str, status: int) -> None:
    (tmp_path / "manager.py").write_text(LOG.format(error=error))
    path = os.pathsep.join([str(Path(diffrun.__file__).parents[1]), str(tmp_path)])
    line = [sys.executable, "-m", "diffrun.campaign.tied", "0", "manager"]
    done = subprocess.run(line, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=60)
    assert done.returncode == status
