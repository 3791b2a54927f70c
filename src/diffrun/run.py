# SPDX-License-Identifier: BSD-3-Clause
"""The making of one run folder: survey, engine, report, check, record, all inside a private folder."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diffrun import advice, check, crate, outputs, preparation, record
from diffrun.answers import last
from diffrun.display import Screen, clean, counted
from diffrun.enginelog import Listener
from diffrun.errors import ConfigError, DataError, DiffrunError, OutputError, RepositoryError
from diffrun.inputs import summing
from diffrun.plan import Plan, id_words
from diffrun.repository.dataid import short_name
from diffrun.runtimes import REPORT, Job, choose, local, supervise
from diffrun.settings import Settings
from diffrun.verdict import NOTE

SEE_LOG = "run with -v to see its log"
_KILLED = 128 + signal.SIGKILL  # as runtimes tell it; the engine's own counts end at 127

#: How the writer of products and the reader of repositories begin their refusals.
_KINDS: tuple[tuple[re.Pattern[str], type[DiffrunError]], ...] = (
    (re.compile(r"no room to |cannot write |cannot make the output "), OutputError),
    (re.compile(r"no \w+ of \{"), RepositoryError),
)


class Run:
    """The making of one run folder, inside its private folder."""

    def __init__(self, plan: Plan, settings: Settings, workshop: Path, screen: Screen) -> None:
        self.plan, self.settings, self.workshop, self.screen = plan, settings, workshop, screen
        self.runtime = choose(plan.program, plan.runtime, plan.image)
        self.local = local()
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.blas = "unknown"

    def make(self) -> dict[str, Any]:
        """Survey, engine, report, check, record."""
        started = datetime.now(UTC)
        prepared = self.prepare()
        command = self.runtime.command(self.plan.job(self.workshop))
        with (  # what looks at the visits and what works, then what waits to report: two at a time
            supervise.asking(self.local.command(check.job(self.plan))) as surveyor,
            supervise.following(command) as engine,
        ):
            survey = self.survey(surveyor)
            with supervise.asking(self.local.command(self.report_job(0))) as reporter:
                with summing(self.plan.inputs, self.plan.jobs):
                    names = self.engine(engine, dict(command.seen), reporter)
                self.tell(reporter, "written")
                products = outputs.check(self.workshop, self.plan.science, names)
                summaries = self.report(reporter)
        self.tell_notes()
        self.refuse_changed_inputs()
        files = outputs.complete(self.workshop, products)
        happened = record.Happened(
            started,
            datetime.now(UTC),
            self.seconds,
            (*self.warnings, *self.notes),
            survey,
            summaries,
            str(self.runtime.command(self.plan.job(self.plan.output))),
            dict(command.environment),
            self.blas,
            outputs.links(self.workshop),
            prepared,
        )
        made = record.make(self.plan, self.settings, happened, files)
        record.write(self.workshop, made)
        crate.write(self.workshop, made)
        return made

    def prepare(self) -> dict[str, Any]:
        """Make calexps of plain images, where such were given; what was assumed goes into the record."""
        if not self.plan.prepare:
            return {}
        before = time.monotonic()
        made = preparation.prepare(self.plan.prepare, self.plan.repository, self.plan.maker, self.screen)
        self.seconds["prepare"] = time.monotonic() - before
        for side, facts in made.items():
            self.warnings += [clean(f"{side}: {note}") for note in facts.get("notes", [])]
        return made

    def survey(self, surveyor: supervise.Child) -> dict[str, Any]:
        """Hear what both visits look like, and pass on the advice; `AdviceError` if it says stop."""
        said: list[str] = []
        before = time.monotonic()
        with self.screen.progress() as progress:
            status = surveyor.attend(said.append, lambda: progress.running("look at both visits"))
        self.seconds["survey"] = time.monotonic() - before
        found = check.heard(self.plan, status, surveyor.answer, said)
        found.show(self.screen)
        self.warnings += [clean(line.text) for line in found.lines if line.verdict == NOTE]
        advice.refuse(found.lines)
        self.screen.line()
        return found.survey

    def engine(
        self, engine: supervise.Child, seen: dict[str, str], reporter: supervise.Child
    ) -> tuple[str, ...]:
        """Follow the program to its end: the files it left; `DiffrunError` of the right kind if it fails."""
        with (
            (self.workshop / outputs.LOG).open("w", encoding="utf-8") as log,
            self.screen.progress() as progress,
        ):
            single = len(self.plan.science) == 1
            listener = Listener(self.screen, progress, log, single, lambda of: self.look(reporter, of))
            status = engine.attend(listener.hear, listener.begin)
            if status == 0:
                listener.end()
                if not listener.each:
                    sensors = counted(len(self.plan.science), "sensor")
                    progress.done(sensors, sum(listener.seconds.values()))
        self.seconds |= listener.seconds
        self.notes, self.blas = listener.warnings, listener.blas
        cause = listener.cause.replace(str(self.workshop), str(self.plan.output))
        if status != 0:
            if self.plan.runtime != "native" and not listener.entered:
                raise DiffrunError(f"{self.plan.runtime} did not start the program: {cause}", SEE_LOG)
            raise _failure(status, listener, cause)
        try:
            outputs.point_home(self.workshop, seen)
            return outputs.examine(self.workshop, self.plan.science, self.plan.repository)
        except OutputError:
            if listener.failure:  # the stack's program ends with 0 all the same
                raise _failure(status, listener, cause) from None
            raise

    def report_job(self, number: int) -> Job:
        """The call of the program that reports on one of the sensors, when it is told that all is written."""
        ids = ("--science", *id_words(self.plan.science[number].as_dict()))
        ids += ("--template", *id_words(self.plan.template[number].as_dict()))
        words = (str(self.workshop), *ids, "--prefix", "-", f"--suffix={self.suffix(number)}")
        if self.plan.prepare:  # no name begins with a dash
            words += ("--names", *(each.frame.name for each in self.plan.prepare))
        return Job(REPORT, words, (self.plan.repository,), self.workshop, waits=True)

    def suffix(self, number: int) -> str:
        """What the names of a sensor's reports end with."""
        return "" if len(self.plan.science) == 1 else "-" + self.name(number).replace(" ", "-")

    def name(self, number: int) -> str:
        """``R22 S11``."""
        return short_name(self.plan.science[number].raft, self.plan.science[number].sensor)

    def look(self, reporter: supervise.Child, science: str) -> None:
        """Let images be looked at once they are written; those that a container wrote are examined first."""
        if self.plan.runtime == "native" and science == str(self.plan.science[0]):
            self.tell(reporter, "images")

    def tell(self, reporter: supervise.Child, what: str) -> None:
        """Tell a report what is written, ``images`` or all, and how it is named."""
        reporter.tell(f"{what} {outputs.prefix(self.workshop).removesuffix('Diff')}")

    def report(self, first: supervise.Child) -> dict[str, Any]:
        """Draw the picture and measure the quality of each sensor; the products are good without them.

        As many at a time as the program did.
        """
        found = {}
        before = time.monotonic()
        with self.screen.progress() as progress, contextlib.ExitStack() as started:
            progress.running("picture")
            reporters = [first]
            for number in range(len(self.plan.science)):
                for later in range(len(reporters), min(number + self.plan.jobs, len(self.plan.science))):
                    asked = supervise.asking(self.local.command(self.report_job(later)))
                    reporters.append(started.enter_context(asked))
                    self.tell(reporters[later], "written")
                found[self.name(number)] = self.report_on(reporters[number], number)
            self.seconds["picture"] = time.monotonic() - before
            progress.done("picture", self.seconds["picture"])
        return {name: summary for name, summary in found.items() if summary}

    def report_on(self, reporter: supervise.Child, number: int) -> dict[str, Any]:
        """What one report has found."""
        said: list[str] = []
        status = reporter.attend(said.append)
        answer = f"{outputs.SUMMARY}{self.suffix(number)}.json"
        try:
            found = json.loads((self.workshop / answer).read_bytes()) if status == 0 else None
        except (OSError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self._warn(f"no picture and no summary: {last(said)}")
            return {}
        said_bad = found.get("warnings")
        lines = [clean(str(line)) for line in said_bad] if isinstance(said_bad, list) else []
        self.notes += [line for line in lines if line not in self.notes]
        return found

    def tell_notes(self) -> None:
        """What the engine warned of, and what its numbers say against it, after its stages."""
        if self.notes:
            self.screen.line()
        for note in self.notes:
            self.screen.remark("note", note)

    def refuse_changed_inputs(self) -> None:
        """`DataError` if an input is not what it was when the run was planned."""
        for item in (*self.plan.inputs, *self.plan.configfiles):
            if not item.unchanged():
                raise DataError(f"{item.path} changed while it was in use", "run again when it is at rest")

    def _warn(self, text: str) -> None:
        self.warnings.append(clean(text))
        self.screen.fact("advice", text)


def _failure(status: int, listener: Listener, cause: str) -> DiffrunError:
    """What a failed program means to the user; its exit status alone tells little (a count of data ids)."""
    if listener.usage:
        return ConfigError(cause)
    if status < 0:
        return DiffrunError(
            f"the engine was ended by {signal.Signals(-status).name}", f"last it said: {cause}"
        )
    if listener.failure:
        return next((kind for words, kind in _KINDS if words.match(cause)), DataError)(cause)
    if status == _KILLED:
        return DiffrunError("the engine was killed in its container", "most often it wants more memory")
    return DiffrunError(f"the engine ended with {status}: {cause}", SEE_LOG)
