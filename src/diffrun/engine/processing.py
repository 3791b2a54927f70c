# SPDX-License-Identifier: BSD-3-Clause
"""Run the task on data ids: one after the other, or each in a process of its own.

A failure is one line, as in the stack, and the next data id follows.
"""

from __future__ import annotations

import atexit
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from diffrun.engine import kernelcache, logs, overrides, products
from diffrun.engine.arguments import Arguments
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.leave import leave, with_parent
from diffrun.engine.selection import template_for
from diffrun.engine.task import run
from diffrun.errors import DiffrunError
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository
from diffrun.threads import share

_LOG = logging.getLogger("imageDifference")


@dataclass(frozen=True)
class Job:
    """One data id with all that a process of its own needs to know.

    Attributes
    ----------
    science : `DataId`
    template : `dict`
        Keys of ``--templateId``.
    """

    arguments: Arguments
    settings: tuple[overrides.Override, ...]
    science: DataId
    template: dict[str, int | str]

    def config(self) -> ImageDifferenceConfig:
        """The configuration, made anew: pex_config's own pickles are Python code."""
        config = ImageDifferenceConfig()
        overrides.apply(config, self.settings)
        return config


def process(job: Job, config: ImageDifferenceConfig, output: Path) -> bool:
    """Make one difference; `False`, with a line in the log, if that failed.

    With ``--doraise`` the exception goes on instead.
    """
    label = logs.LABEL.set(str(job.science))
    try:
        _difference(job, config, output)
        return True
    except Exception as error:
        if job.arguments.do_raise:
            raise
        unexpected = not isinstance(error, DiffrunError)
        message = str(error)
        if unexpected:
            message = f"{type(error).__name__}: {error}; this is a fault of diffrun: please report it"
        trace = unexpected and _LOG.isEnabledFor(logging.DEBUG)
        _LOG.critical("Failed on dataId=%s: %s", job.science, message, exc_info=trace)
        return False
    finally:
        logs.LABEL.reset(label)


def _difference(job: Job, config: ImageDifferenceConfig, output: Path) -> None:
    repository = Repository.open(job.arguments.input)
    _LOG.info("Processing %s", job.science)
    template = template_for(repository, job.science, job.template)
    inputs = products.read(repository, job.science, template, config)
    with products.Writer(output, job.science, config) as hand:
        run(inputs, config, _LOG, hand)


def process_all(
    jobs: Sequence[Job], config: ImageDifferenceConfig, output: Path, processes: int, timeout: float
) -> int:
    """Process all jobs and give the number of failures.

    Parameters
    ----------
    jobs : sequence of `Job`
    config : `ImageDifferenceConfig`
        That of each job.
    output : `pathlib.Path`
    processes : `int`
        How many at the same time; with 1 no other process is started.
    timeout : `float`
        Seconds for all of them, if there are several processes.
    """
    if processes == 1 or len(jobs) < 2:
        return sum(not process(job, config, output) for job in jobs)
    processes = min(processes, len(jobs))  # each has its part of the processors
    running: dict[Any, tuple[Job, BaseProcess]] = {}
    waiting, deadline, failures = list(reversed(jobs)), time.monotonic() + timeout, 0
    kernelcache.load()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                child = _started(waiting[-1], output, processes)
                running[child.sentinel] = waiting.pop(), child
            over = wait(running, max(0.0, deadline - time.monotonic()))
            if not over:
                break
            failures += sum(not _done(*running.pop(each)) for each in over)
    finally:  # after an interrupt too
        for _, child in running.values():
            child.kill()
    late = [*(job for job, _ in running.values()), *reversed(waiting)]
    for job in late:
        _LOG.critical("Failed on dataId=%s: not done within --timeout", job.science)
    return failures + len(late)


def _started(job: Job, output: Path, processes: int) -> BaseProcess:
    """A process for one job, so that its end is no other's.

    Where it can be a copy of this one it has all that is loaded here: to load that anew takes as long as a
    small difference.
    """
    can_fork = sys.platform == "linux" and threading.active_count() == 1
    context: Any = get_context("fork" if can_fork else "spawn")
    child: BaseProcess = context.Process(target=_child, args=(job, output, processes), daemon=True)
    child.start()
    return child


def _done(job: Job, child: BaseProcess) -> bool:
    """How a process has ended; `False`, if not well, with a line in the log."""
    child.join()
    if child.exitcode is not None and child.exitcode < 0:
        name = signal.Signals(-child.exitcode).name
        _LOG.critical("Failed on dataId=%s: the process was ended by %s", job.science, name)
    return child.exitcode == 0


def _child(job: Job, output: Path, processes: int) -> None:
    atexit._clear()  # what is to be done at the end of the process that started us
    with_parent()
    share(processes)
    logs.configure(job.arguments.log_levels, job.arguments.long_log)
    try:
        done = process(job, job.config(), output)
    except KeyboardInterrupt:
        done = False
    leave(0 if done else 1)
