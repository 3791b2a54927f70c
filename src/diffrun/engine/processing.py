# SPDX-License-Identifier: BSD-3-Clause
"""Run the task on data ids: one after the other, or each in a process of its own.

A failure is one line, as in the stack, and the next data id follows.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path

from diffrun.engine import logs, overrides, products
from diffrun.engine.arguments import Arguments
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.engine.leave import leave, with_parent
from diffrun.engine.selection import template_for
from diffrun.engine.task import run
from diffrun.errors import DiffrunError
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

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
    pool = ThreadPoolExecutor(min(processes, len(jobs)))
    workers = _Workers(output, time.monotonic() + timeout)
    try:
        return sum(not done for done in pool.map(workers.process, jobs))
    finally:
        workers.stop()
        pool.shutdown(cancel_futures=True)


class _Workers:
    """Processes of their own for each job, so that the end of one is no other's."""

    def __init__(self, output: Path, deadline: float) -> None:
        self.output, self.deadline = output, deadline
        self.children: list[SpawnProcess] = []

    def process(self, job: Job) -> bool:
        """Process one job; `False`, with a line in the log, if that failed or took too long."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return _late(job)
        child = get_context("spawn").Process(target=_child, args=(job, self.output), daemon=True)
        self.children.append(child)
        child.start()
        child.join(left)
        if child.is_alive():
            child.kill()
            child.join()
            return _late(job)
        if child.exitcode is not None and child.exitcode < 0 and self.deadline:
            name = signal.Signals(-child.exitcode).name
            _LOG.critical("Failed on dataId=%s: the process was ended by %s", job.science, name)
        return child.exitcode == 0

    def stop(self) -> None:
        """End what still runs, for good: this is the way out after an interrupt."""
        self.deadline = 0.0
        for child in self.children:
            if child.is_alive():
                child.kill()


def _late(job: Job) -> bool:
    _LOG.critical("Failed on dataId=%s: not done within --timeout", job.science)
    return False


def _child(job: Job, output: Path) -> None:
    with_parent()
    logs.configure(job.arguments.log_levels, job.arguments.long_log)
    try:
        done = process(job, job.config(), output)
    except KeyboardInterrupt:
        done = False
    leave(0 if done else 1)
