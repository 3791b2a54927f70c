# SPDX-License-Identifier: BSD-3-Clause
"""One run as a Slurm job: submit it, say how it stands, wait for it, cancel it.

The run folder is the truth: a job that has ended is done if its folder is there, whatever Slurm says of it.
The job does what ``diffrun`` does at any prompt: begun again, it finds a finished folder, or makes it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diffrun import launch, outputs, settings, sites
from diffrun.batch import notes, resources, script, slurm
from diffrun.batch.slurm import State
from diffrun.claim import occupied
from diffrun.display import Screen, shown
from diffrun.errors import BatchError, DiffrunError, UsageError
from diffrun.files.atomic import write_bytes
from diffrun.plan import Plan, make
from diffrun.record import read as read_record
from diffrun.request import Request

_LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class Prepared:
    """A run that can be submitted: its plan, and the text of its script."""

    plan: Plan
    text: str


@dataclass(frozen=True)
class Standing:
    """How a run folder stands: done or not, and what Slurm says of its latest job."""

    output: Path
    done: bool
    state: State | None

    @property
    def word(self) -> str:
        """``done``, ``pending``, ``running``, ..., ``not done``."""
        if self.done:
            return "done"
        return self.state.word.lower() if self.state and self.state.active else "not done"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        state = self.state
        return {
            "run": str(self.output),
            "standing": self.word,
            "job": state.job if state else None,
            "state": state.word if state else None,
            "cause": state.cause if state and not self.done and not state.active else None,
            "log": str(script.log_path(self.output, state.job)) if state else None,
        }

    def __str__(self) -> str:
        parts = [f"{shown(self.output)}: {self.word}"]
        if self.state:
            why = self.state.reason if self.state.active else "" if self.done else self.state.cause
            parts.append(f"job {self.state.job} {self.state.word}" + (f", {why}" if why else ""))
            log = script.log_path(self.output, self.state.job)
            parts += [f"log {shown(log)}"] if log.exists() else []
        else:
            parts.append("never submitted")
        return "; ".join(parts)


def prepare(request: Request, typed: Mapping[str, str | None], screen: Screen, show: bool) -> Prepared:
    """Decide everything, as for a run here; with ``show`` what a submission alone needs may be missing.

    Raises
    ------
    UsageError
        If the site is retired, or wants something that was not given.
    """
    if request.site and request.site.endswith((".yaml", ".yml")):
        request = replace(request, site=str(Path(request.site).expanduser().absolute()))
    resolved = settings.resolve(request)
    wanted = resources.resolve(resolved.site.value, typed)
    retired = sites.read(resolved.site.value).get("retired")
    if retired and not show:
        raise UsageError(
            f"the site {resolved.site.value} is retired since {retired}", "see its script with --dry-run"
        )
    resources.require(resolved.site.value, wanted)
    plan = make(request, resolved)
    launch.introduce(plan, resolved, screen)
    return Prepared(plan, script.of_run(plan, wanted))


def submit(prepared: Prepared, screen: Screen) -> Standing:
    """Write the script and submit it, unless the folder is finished or a job for it waits or runs.

    Raises
    ------
    BatchError
        If there is no Slurm here, or it refuses; the script is written in any case.
    """
    plan = prepared.plan
    if occupied(plan.output):
        found = launch.find_finished(plan, screen)
        return Standing(found.folder, True, None)
    path = script.path(plan.output)
    with notes.opened(plan.output) as noted:
        write_bytes(path, prepared.text.encode("utf-8", "surrogateescape"))
        if not slurm.available():
            raise BatchError(f"there is no sbatch here; the script is {path}", "submit it where Slurm is")
        job = slurm.active(plan.output.name, plan.output.parent)
        if job is None:
            job = slurm.submit(path)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            noted.add(notes.Note(job, plan.digest, now))
            screen.line(f"script     {shown(path)}")
        else:
            screen.line(f"job {job} for {shown(plan.output)} is waiting or running: nothing was submitted")
    return Standing(plan.output, False, slurm.state(job))


def standing(output: Path) -> Standing:
    """How a run folder stands now."""
    noted = notes.read(output)
    state = slurm.state(noted[-1].job) if noted else None
    return Standing(output, finished(output, noted[-1].digest if noted else None), state)


def finished(output: Path, digest: str | None) -> bool:
    """Whether a run folder is there, made by the plan of that digest (any, if `None`)."""
    if not (output / outputs.RECORD).is_file():
        return False
    try:
        made = read_record(output)["plan"].get("digest")
    except DiffrunError:
        return False
    return digest is None or made == digest


def known(output: Path) -> bool:
    """Whether a run folder is there, or a job was submitted for it."""
    return bool(notes.read(output)) or finished(output, None)


def submitted(root: Path) -> list[Path]:
    """The run folders below ``root`` that jobs were submitted for."""
    return sorted(path.with_suffix("") for path in root.glob(f"*{notes.SUFFIX}"))


def wait(output: Path, limit: float | None, screen: Screen) -> Standing:
    """Wait until no job of a run folder waits or runs.

    Parameters
    ----------
    output : `pathlib.Path`
    limit : `float`, optional
        Seconds after which to give up.
    screen : `Screen`

    Raises
    ------
    BatchError
        If the job ends without the run folder, with the cause; or the wait is over first.
    """
    end = None if limit is None else time.monotonic() + limit
    pause, last = 0.2, ""
    while True:
        now = standing(output)
        if now.state is None and not now.done:
            raise BatchError(f"no job was submitted for {output}", "submit it with: diffrun submit")
        if str(now) != last:
            last = str(now)
            screen.line(last)
        if now.state is None or not now.state.active:
            break
        if end is not None and time.monotonic() > end:
            raise BatchError(f"{output} is still {now.word} (job {now.state.job})", "wait longer")
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
    if not now.done:
        assert now.state is not None
        log = script.log_path(output, now.state.job)
        raise BatchError(
            f"job {now.state.job} ended without {output}: {now.state.cause}{_last(log)}",
            f"see {log}, and submit the run again",
        )
    return now


def _last(log: Path) -> str:
    """What diffrun itself said last in a job's log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = [line for line in lines if line.startswith("diffrun: error: ")]
    return f" ({said[-1].removeprefix('diffrun: error: ')})" if said else ""


def cancel(output: Path) -> Standing:
    """Cancel the job of a run folder, if it waits or runs."""
    now = standing(output)
    if now.state is not None and now.state.active:
        slurm.cancel([now.state.job])
        now = standing(output)
    return now
