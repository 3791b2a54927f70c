# SPDX-License-Identifier: BSD-3-Clause
"""One run, a straight line: request, settings, plan, runtime, outputs, record, one rename."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun import closing, outputs, record
from diffrun.claim import claimed, explained, occupied, publish
from diffrun.display import Screen
from diffrun.plan import Plan, make
from diffrun.request import Request
from diffrun.run import Run
from diffrun.settings import Settings, resolve, unknown_variables


@dataclass(frozen=True)
class Outcome:
    """The run folder and its record; ``finished_before`` if this command found it ready."""

    folder: Path
    record: dict[str, Any]
    finished_before: bool


def launch(request: Request, screen: Screen) -> Outcome:
    """Do what was asked for, or find it done.

    Raises
    ------
    DiffrunError
        With the cause and the remedy; nothing half-written is left.
    """
    settings = resolve(request)
    plan = make(request, settings)
    introduce(plan, settings, screen)
    if occupied(plan.output):
        return find_finished(plan, screen)
    with claimed(plan.output, lambda: screen.line(f"another run makes {plan.output}: waiting")) as workshop:
        if workshop is None:
            return find_finished(plan, screen)
        with explained(plan.output):
            made = Run(plan, settings, workshop, screen).make()
            publish(workshop, plan.output)
    closing.show(screen, plan.output, made)
    return Outcome(plan.output, made, False)


def introduce(plan: Plan, settings: Settings, screen: Screen) -> None:
    """The first lines: which program, where, on what."""
    where = "two plain images" if plan.prepare else f"repository {plan.repository}"
    screen.line(f"diffrun {plan.name}: {plan.program}, {plan.runtime} runtime, {where}")
    if plan.prepare and plan.image and plan.maker.name == "native":
        screen.line(f"the images are made calexps natively, by this diffrun: the {plan.program} cannot")
    if plan.own_subset:
        screen.line("no --repo given: this is the Twinkles subset that comes with diffrun")
    if settings.site.origin != "default":
        screen.line(f"site {plan.site} (from {settings.site.origin})")
    for line in unknown_variables():
        screen.remark("note", line)


def find_finished(plan: Plan, screen: Screen) -> Outcome:
    """The folder is there: accept it if this very plan made it and every file is as it was."""
    found = record.read(plan.output)
    record.refuse_other_plan(plan.output, found, plan)
    files = outputs.of_record(found, plan.output)
    outputs.verify(plan.output, files)
    screen.line(f"finished before, at {found.get('finished')}; all {len(files)} files are as they were")
    closing.show(screen, plan.output, found)
    return Outcome(plan.output, found, True)
