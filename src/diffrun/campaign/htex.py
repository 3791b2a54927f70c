# SPDX-License-Identifier: BSD-3-Clause
"""The workers of Parsl's HighThroughputExecutor: on this machine, or on whole nodes that Slurm gives.

Parsl hands out pairs and brings back what became of them. It keeps nothing: the ledger is the truth, and
its own retries and checkpoints are off. It is imported here alone, by the campaigns that ask for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffrun.batch import slurm
from diffrun.batch.resources import Resources
from diffrun.campaign import remote
from diffrun.campaign.crew import Work
from diffrun.campaign.ledger import FAILED, Entry
from diffrun.campaign.recipe import Recipe
from diffrun.claim import explained
from diffrun.display import clean
from diffrun.errors import BatchError, UsageError
from diffrun.request import Request
from diffrun.runtimes.native import python

if TYPE_CHECKING:
    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.executors import HighThroughputExecutor
    from parsl.providers.base import ExecutionProvider

FOLDER = "parsl"
#: Seconds from one sign of life to the next, and without one until a node or the driver is given up.
BEAT, LOST = 5, 30
#: Pairs handed over for each worker, so that none waits for the driver.
_AHEAD = 1.1
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,+@-]+", re.ASCII)


@dataclass(frozen=True)
class Nodes:
    """Jobs of whole nodes: how many at a time, of how many nodes, with how many workers on each."""

    jobs: int
    nodes: int
    workers: int
    wanted: Resources


def nodes(wanted: Resources, jobs: int, each: int, workers: int | None) -> Nodes:
    """What to ask Slurm for; without a number of workers there is one for each core of the smallest node."""
    return Nodes(jobs, each, workers or slurm.cores(wanted.partition.value), wanted)


class Htex:
    """A running executor; pairs may be under way for the workers that there are, and a few more."""

    def __init__(self, kernel: DataFlowKernel, executor: HighThroughputExecutor, limit: float) -> None:
        from parsl import python_app

        self._kernel, self._executor, self._limit = kernel, executor, limit
        self._app = python_app(remote.do, data_flow_kernel=kernel)
        assert executor.provider is not None
        self._provider = executor.provider
        self._block = int(executor.workers_per_node) * executor.provider.nodes_per_block

    def room(self) -> int:
        """How many pairs may be under way: of one job at least, else Parsl asks for none.

        Raises
        ------
        BatchError
            If the executor cannot do any more.
        """
        interchange = self._executor.interchange_proc
        if interchange is None or interchange.poll() is not None:
            raise BatchError("Parsl's interchange has ended", "the same command goes on")
        if self._executor.bad_state_is_set:
            said = clean(" ".join(str(self._executor.executor_exception).split()), 400)
            raise BatchError(f"no job of Parsl's begins to work: {said}", f"see {self._kernel.run_dir}")
        return math.ceil(_AHEAD * self._block * max(1, self._running()))

    def busy(self, begun: int) -> int:
        """How many pairs have a worker."""
        return min(begun, self._block * self._running())

    def begin(self, pair: Request, words: Sequence[str]) -> Work:
        """Hand a pair over."""
        return Sent(pair, self._app(pair, tuple(words), self._limit))

    def end(self) -> None:
        """Cancel the jobs, and end what there is of Parsl here."""
        with contextlib.suppress(Exception):  # what Slurm cannot cancel now ends with the heartbeat
            self._provider.cancel(list(self._executor.blocks_to_job_id.values()))
        interchange = self._executor.interchange_proc
        if interchange is not None and interchange.poll() is None:
            self._kernel.cleanup()

    def _running(self) -> int:
        """Jobs that run."""
        return sum(status.state.name == "RUNNING" for status in self._executor.status_facade.values())


class Sent:
    """A pair that was handed over."""

    def __init__(self, pair: Request, future: Future[Entry]) -> None:
        self.pair, self._future = pair, future

    def over(self) -> bool:
        """Whether there is an answer."""
        return self._future.done()

    def stop(self) -> None:
        """Nothing to tell: it ends with the workers."""

    def end(self) -> None:
        """Nothing to wait for."""

    def entry(self, by: str) -> Entry:
        """The worker's own, or that it was lost."""
        if not self._future.done():
            return Entry(self.pair.name, FAILED, by=by, cause="stopped", message="the driver was stopped")
        error = self._future.exception()
        if error is None:
            return self._future.result()
        said = clean(f"{type(error).__name__}: {error}", 400)
        return Entry(self.pair.name, FAILED, by=by, cause="lost", message=said)

    def close(self) -> None:
        """Nothing is open."""


@contextlib.contextmanager
def here(folder: Path, common: Recipe, workers: int, memory: int, limit: float) -> Iterator[Htex]:
    """Workers on this machine, each with so many bytes of memory.

    Raises
    ------
    UsageError
        If there is no Parsl, or it cannot be told this folder.
    """
    parsl = _parsl(folder)
    launcher, prologue = parsl.launchers.SimpleLauncher(), _environment(common)
    provider = parsl.providers.LocalProvider(
        init_blocks=1, max_blocks=1, launcher=launcher, worker_init=prologue
    )
    with _started(folder, provider, workers, memory, limit, os.getpid()) as made:
        yield made


@contextlib.contextmanager
def on_slurm(folder: Path, common: Recipe, asked: Nodes, memory: int, limit: float) -> Iterator[Htex]:
    """Workers on whole nodes, each with so many bytes of memory; jobs of a killed driver are cancelled first.

    Raises
    ------
    BatchError
        If there is no Slurm.
    UsageError
        If there is no Parsl, or it cannot be told this folder.
    """
    parsl = _parsl(folder)
    if not slurm.available():
        raise BatchError("there is no sbatch here", "run this where Slurm is, or without --executor slurm")
    place = folder / FOLDER
    left = slurm.jobs_of(place)
    if left:
        slurm.cancel(left)
    wanted = asked.wanted
    more = {"licenses": wanted.licenses.value, "chdir": str(place), "export": "NONE", "mem": "0"}
    lines = [f"#SBATCH --{name}={text}" for name, text in more.items() if text is not None]
    provider = parsl.providers.SlurmProvider(
        account=wanted.account.value,
        qos=wanted.qos.value,
        partition=wanted.partition.value,
        constraint=wanted.constraint.value,
        nodes_per_block=asked.nodes,
        init_blocks=asked.jobs,
        max_blocks=asked.jobs,
        walltime=f"{wanted.time.value // 3600}:{wanted.time.value // 60 % 60:02d}:00",
        scheduler_options="\n".join([*lines, "#SBATCH --no-requeue"]),
        worker_init="export SLURM_EXPORT_ENV=ALL\n" + _environment(common),
        cmd_timeout=120,
        exclusive=True,
        launcher=parsl.launchers.SrunLauncher(debug=False, overrides="--cpu-bind=none"),
    )
    with _started(folder, provider, asked.workers, memory, limit) as made:
        yield made


@contextlib.contextmanager
def _started(
    folder: Path, provider: ExecutionProvider, workers: int, memory: int, limit: float, driver: int = 0
) -> Iterator[Htex]:
    from parsl.config import Config
    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    place = folder / FOLDER
    with explained(place):
        place.mkdir(mode=0o700, exist_ok=True)  # the keys of the connections lie there
    worker = _program(driver, "parsl.executors.high_throughput.process_worker_pool")
    executor = HighThroughputExecutor(  # encrypted, as is its default: others' programs may share the machine
        label="diffrun",
        provider=provider,
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", shlex.join(worker), 1),
        interchange_launch_cmd=_program(os.getpid(), "parsl.executors.high_throughput.interchange"),
        address="127.0.0.1",
        max_workers_per_node=workers,
        mem_per_worker=memory / 1024**3,
        heartbeat_period=BEAT,
        heartbeat_threshold=LOST,
    )
    if not driver:
        executor.address, executor.all_addresses = None, _addresses()  # Parsl would ask a server far away
    settled = Config(
        executors=[executor],
        run_dir=str(place),
        retries=0,
        strategy="simple",
        strategy_period=1,
        initialize_logging=False,
        usage_tracking=0,
    )
    with explained(place):  # its first files, which come before anything runs
        made = Htex(DataFlowKernel(settled), executor, limit)
    try:
        yield made
    finally:
        made.end()


def _parsl(folder: Path) -> Any:
    """Parsl, which must be told the folder in a way that its shell scripts take."""
    if not _PLAIN.fullmatch(str(folder)):
        raise UsageError(
            f"{folder} cannot be said to Parsl, whose scripts name it without quotes",
            "give an --output of letters, digits and _./:=,+@-",
        )
    try:
        import parsl
        import parsl.launchers
        import parsl.providers
    except ImportError:
        raise UsageError("there is no Parsl here", "pip install 'diffrun[campaign]'") from None
    return parsl


def _addresses() -> set[str]:
    """Where other machines may find this one."""
    import psutil

    found = {
        each.address
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family == socket.AF_INET
    }
    return {each for each in found if not each.startswith("127.")} or found


def _program(driver: int, module: str) -> list[str]:
    """The argv of a program of Parsl, with this very Python, whatever is on PATH."""
    argv, _ = python("diffrun.campaign.tied", (str(driver), module), {})
    return list(argv)


def _environment(common: Recipe) -> str:
    """The variables of the workers, as lines of a shell script."""
    _, variables = python("diffrun.campaign.tied", (), {"PATH": "/usr/bin:/bin"} | common.variables())
    return "\n".join(f"export {shlex.quote(f'{name}={text}')}" for name, text in variables)
