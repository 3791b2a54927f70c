# SPDX-License-Identifier: BSD-3-Clause
"""Slurm, by its own commands: submit, ask, cancel. States come from ``sacct`` where there is accounting.

Without accounting ``scontrol`` knows a job while it lasts and a few minutes more (MinJobAge); after that only
the run folder tells.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffrun.display import clean
from diffrun.errors import BatchError

_SECONDS = 120
#: States in which a job is not over.
_ACTIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_FED"}
    | {"REQUEUE_HOLD", "RESIZING", "SIGNALING", "STAGE_OUT", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
_JOB = re.compile(r"[0-9]+", re.ASCII)
_PAIR = re.compile(r"(\w+(?::\w+)?(?:/\w+)?)=(\S*)")
_GONE = re.compile(r"Invalid job id", re.IGNORECASE)


@dataclass(frozen=True)
class State:
    """What Slurm says of one job.

    Attributes
    ----------
    job : `str`
    word : `str`
        ``PENDING``, ``RUNNING``, ``COMPLETED``, ``TIMEOUT``, ...; ``UNKNOWN`` if Slurm has forgotten it.
    reason : `str`
        Why it waits, or why it ended; may be empty.
    code, signal : `int`
        What the job ended with.
    source : `str`
        ``sacct``, ``scontrol`` or ``nothing``.
    """

    job: str
    word: str
    reason: str = ""
    code: int = 0
    signal: int = 0
    source: str = "nothing"

    @property
    def active(self) -> bool:
        """Whether the job waits or runs."""
        return self.word in _ACTIVE

    @property
    def cause(self) -> str:
        """Why a job that is over did not succeed, in plain words."""
        known = {
            "TIMEOUT": "the time limit ended it",
            "NODE_FAIL": "its node was lost",
            "BOOT_FAIL": "its node did not start",
            "PREEMPTED": "another job took its place",
            "OUT_OF_MEMORY": "it wanted more memory",
            "DEADLINE": "its deadline passed",
            "CANCELLED": "it was cancelled",
            "UNKNOWN": "Slurm no longer knows it",
        }
        if self.word in known:
            return known[self.word]
        if self.code == 143:
            return "it was told to end: the time limit was near"
        if (self.code, self.signal) == (0, 53):
            return "its log could not be opened"
        ended = f"signal {self.signal}" if self.signal else f"exit code {self.code}"
        return f"{self.word} with {ended}"


def available() -> bool:
    """Whether jobs can be submitted here."""
    return shutil.which("sbatch") is not None


def submit(script: Path, words: Sequence[str] = ()) -> str:
    """Submit a script; the number of the job.

    Raises
    ------
    BatchError
        With Slurm's own words if it refuses.
    """
    done = _run(["sbatch", "--parsable", *words, str(script)])
    job = done.stdout.strip().partition(";")[0]
    if done.returncode != 0 or not _JOB.fullmatch(job):
        raise BatchError(
            f"Slurm does not take {script}: {_said(done)}",
            "the script is kept: correct it, and submit it",
        )
    return job


def active(name: str, folder: Path) -> str | None:
    """The job of that name and working folder which waits or runs, if there is one."""
    return next((job for job, place in _ours() if place == f"{folder}|{name}"), None)


def jobs_of(folder: Path) -> list[str]:
    """All jobs of that working folder which wait or run."""
    return list(dict.fromkeys(job for job, place in _ours() if place.rpartition("|")[0] == str(folder)))


def _ours() -> Iterator[tuple[str, str]]:
    """Each job of this user: its number (a task's is its array's), its folder and name with a bar between."""
    user = str(os.geteuid())
    done = _run(["squeue", "--noheader", f"--user={user}", "--format=%F|%Z|%j"])
    if done.returncode != 0:
        raise BatchError(f"Slurm does not answer: {_said(done)}", "try again later")
    for line in done.stdout.splitlines():
        job, _, place = line.strip().partition("|")
        yield job, place


def cores(partition: str | None) -> int:
    """How many cores the smallest node of a partition has (of any, if `None`)."""
    chosen = [f"--partition={partition}"] if partition else []
    done = _run(["sinfo", "--noheader", "--Node", "--format=%X %Y", *chosen])
    found = [int(x) * int(y) for x, y in re.findall(r"^([0-9]+) ([0-9]+)\s*$", done.stdout, re.MULTILINE)]
    if done.returncode != 0 or not found:
        raise BatchError(f"Slurm names no cores of a node: {_said(done)}", "give --workers")
    return max(1, min(found))


def largest_array() -> int:
    """How many tasks a job array may have here (MaxArraySize)."""
    done = _run(["scontrol", "show", "config"])
    found = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not found or not int(found[1]):
        raise BatchError(f"Slurm does not say its MaxArraySize: {_said(done)}", "try again later")
    return int(found[1])


def state(job: str) -> State:
    """What Slurm says of a job now."""
    return _accounted(job) or _controlled(job)


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; `BatchError` if Slurm refuses."""
    done = _run(["scancel", *jobs])
    if done.returncode != 0:
        raise BatchError(f"Slurm does not cancel: {_said(done)}", "see its state with: diffrun status")


def _accounted(job: str) -> State | None:
    """By ``sacct``, or `None` where there is no accounting or it has not heard of the job yet."""
    if shutil.which("sacct") is None:
        return None
    options = ["--parsable2", "--noheader", "--allocations", "--format=JobIDRaw,State,ExitCode,Reason"]
    done = _run(["sacct", *options, f"--jobs={job}"])
    if done.returncode != 0:
        return None
    for line in done.stdout.splitlines():
        name, word, ended, reason = (*line.split("|"), "", "", "")[:4]
        if name == job and word:
            return _made(job, word, ended, reason, "sacct")
    return None


def _controlled(job: str) -> State:
    """By ``scontrol``, which forgets."""
    done = _run(["scontrol", "--oneliner", "show", "job", job])
    if done.returncode != 0:
        if _GONE.search(done.stderr):
            return State(job, "UNKNOWN")
        raise BatchError(f"Slurm does not answer: {_said(done)}", "try again later")
    pairs = dict(_PAIR.findall(done.stdout.partition("\n")[0]))
    return _made(
        job, pairs.get("JobState", "UNKNOWN"), pairs.get("ExitCode", ""), pairs.get("Reason", ""), "scontrol"
    )


def _made(job: str, word: str, ended: str, reason: str, source: str) -> State:
    code, _, signal = ended.partition(":")
    why = "" if reason in ("None", "") else reason
    return State(job, word.split()[0], why, _number(code), _number(signal), source)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """One of Slurm's commands, without the variables that would change what a script asks for."""
    program = shutil.which(argv[0])
    if program is None:
        raise BatchError(f"there is no command {argv[0]} here", "run this where Slurm is")
    kept = ("SLURM_CONF", "SLURM_JWT")
    strange = ("SBATCH_", "SLURM_", "SQUEUE_", "SACCT_", "SCANCEL_", "SHIFTER_", "DIFFRUN_")
    environment = {
        name: text for name, text in os.environ.items() if name in kept or not name.startswith(strange)
    }
    try:
        return subprocess.run(
            [program, *argv[1:]],
            env=environment | {"LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BatchError(f"{argv[0]} does not answer: {error}", "try again later") from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    said = "; ".join(line.removeprefix("sbatch: error: ") for line in lines[-3:])
    return clean(said, 400) or f"it ended with {done.returncode} and said nothing"
