# SPDX-License-Identifier: BSD-3-Clause
"""A program of Parsl that ends when the driver does: ``python -m diffrun.campaign.tied PID MODULE WORDS...``.

Of a killed driver Parsl itself would leave its interchange behind, and the workers would go on for it; of a
killed manager, a server. Slurm ends what is on its nodes itself, and a driver elsewhere is missed by its
heartbeat: its PID is then 0.

A manager whose server of queues was killed would write of it without end, megabytes a second: it ends, and
its pairs are done elsewhere.
"""

from __future__ import annotations

import logging
import os
import runpy
import select
import signal
import sys

from diffrun.runtimes.supervise import tie_to_parent

_MANAGER = "parsl.executors.high_throughput.process_worker_pool"


def main() -> int:
    """Be the module, or its keeper."""
    driver, module, *words = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    if int(driver):
        child = _forked(int(driver))
        if child:
            return _keep(int(driver), child)
    logging.getLogger(_MANAGER).addFilter(_end_without_queues)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _end_without_queues(record: logging.LogRecord) -> bool:
    """Let a line of the manager's log pass, and end it where the line says that a queue of it is gone."""
    if record.exc_info and isinstance(record.exc_info[1], EOFError | ConnectionError):
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def _forked(driver: int) -> int:
    """The child's number, or 0 in the child; both in a process group that is not the driver's."""
    if os.getpgrp() == os.getpgid(driver):
        os.setpgid(0, 0)
    child = os.fork()
    if not child:
        tie_to_parent()
    return child


def _keep(driver: int, child: int) -> int:
    """Wait for the driver or the child; end the whole group unless the child ended by itself."""
    ends = [os.pidfd_open(child)]
    try:
        ends.append(os.pidfd_open(driver))
        ready, _, _ = select.select(ends, [], [])
    except ProcessLookupError:
        ready = []
    if ends[0] in ready:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status >= 0:
            return status
    os.killpg(0, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main())
