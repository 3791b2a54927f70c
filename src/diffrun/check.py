# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun check``: what a run would say before the work, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffrun import advice, capacity, preparation
from diffrun.answers import BY_CODE, last, refuse
from diffrun.display import Screen, counted
from diffrun.plan import Plan, id_words
from diffrun.runtimes import SURVEY, Job, local, supervise
from diffrun.verdict import NOTE, STOP, Line


@dataclass(frozen=True)
class Advice:
    """What the survey of a pair answered, the lines that say it, and the files of plain images by side."""

    survey: dict[str, Any]
    lines: tuple[Line, ...]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The worst of the lines."""
        return advice.verdict(self.lines)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "verdict": self.verdict,
            "checks": [line.as_dict() for line in self.lines],
            "survey": self.survey,
        }

    def show(self, screen: Screen) -> None:
        """Both visits, and all lines."""
        for side in ("science", "template"):
            if isinstance(self.survey.get(side), dict):
                screen.fact(side, advice.describe(self.survey[side], self.files.get(side)))
        advice.show(self.lines, screen)


def job(plan: Plan) -> Job:
    """The call of the program that looks at both visits: at the first sensor, where there are several."""
    words = [str(plan.repository), "--science", *id_words(plan.science[0].as_dict())]
    words += ["--template", *id_words(plan.template[0].as_dict())]
    files = plan.configfiles if plan.config or plan.configfiles[1:] else ()  # the recipe alone it knows
    words += [word for item in files for word in ("--configfile", str(item.path))]
    words += [word for override in plan.config for word in ("--config", override)]
    limits = [(name, value) for name, value in plan.limits if name != "max_memory"]
    words += [word for name, value in limits for word in ("--" + name.replace("_", "-"), value)]
    return Job(SURVEY, tuple(words), (plan.repository,), configs=tuple(item.path for item in files))


def heard(plan: Plan, status: int, answer: Callable[[], str], said: list[str]) -> Advice:
    """What the program's end means.

    Raises
    ------
    DiffrunError
        Of the kind that its exit status names.
    """
    if status in BY_CODE:
        raise BY_CODE[status](last(said))
    if status != 0:
        line = Line("advice", NOTE, f"no advice on this pair: {last(said)}")
        return Advice({}, (line,))
    found = advice.parse(answer())
    several = len(plan.science)
    lines = advice.lines(found) + capacity.lines(found.get("cost"), plan)
    if several > 1:
        first = plan.science[0].detector
        lines.insert(0, Line("sensors", NOTE, f"{several} sensors; looked at: {first}"))
    files = {each.side: each.frame.path.name for each in plan.prepare}
    return Advice(found, tuple(lines), files)


def check(plan: Plan, screen: Screen) -> Advice:
    """Look at the pair of a plan; of plain images calexps are made first, and kept for the run."""
    if plan.prepare:
        preparation.prepare(plan.prepare, plan.repository, plan.maker, screen)
    said: list[str] = []
    with screen.progress() as progress:
        status, answer = supervise.ask(
            local().command(job(plan)), said.append, lambda: progress.running("look at both visits")
        )
    refuse(status, said, "the survey")
    return heard(plan, status, lambda: answer, said)


def closing(found: Advice) -> str:
    """The last line: what to do now."""
    number = sum(line.verdict == found.verdict for line in found.lines)
    if found.verdict == STOP:
        return f"stop: {counted(number, 'line')} above must be seen to first"
    notes = f"with {counted(number, 'note')}" if found.verdict == NOTE else "all is well"
    return f"this pair can be subtracted, {notes}"
