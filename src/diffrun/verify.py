# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun verify``: a finished run against its record, and against itself made again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.display import Screen, counted, shown
from diffrun.errors import VerificationError
from diffrun.integrity import Report, examine
from diffrun.outputs import RECORD
from diffrun.rerun import Comparison, again


@dataclass(frozen=True)
class Result:
    """What was found of the folder, and of the second run where one was made."""

    report: Report
    comparison: Comparison | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        rerun = self.comparison.as_dict() if self.comparison else None
        return {**self.report.as_dict(), "rerun": rerun}

    def refuse(self) -> None:
        """`VerificationError` if anything is not as it was; what is wrong with the folder comes first."""
        self.report.refuse()
        if self.comparison:
            self.comparison.refuse()


def verify(folder: Path, rerun: bool, screen: Screen) -> Result:
    """Look at a run folder, tell what is found, and make the run again if asked to.

    Raises
    ------
    RepositoryError
        If it is not a run folder.
    VerificationError
        If its record cannot be read, or cannot be made again.
    """
    report = examine(folder)
    tell(report, screen)
    if not rerun:
        return Result(report)
    spoilt = {found.name for found in report.findings}
    if RECORD in spoilt:
        raise VerificationError(f"{folder / RECORD} has changed: it cannot be made again", "restore it")
    screen.line()
    comparison = again(folder, report.record, spoilt, screen)
    tell_comparison(comparison, screen)
    return Result(report, comparison)


def tell(report: Report, screen: Screen) -> None:
    """One line for what is well, one for each finding."""
    screen.line(f"{shown(report.folder)}: made by diffrun {report.record.get('diffrun')}")
    screen.fact("files", f"{counted(report.files, 'output')} as they were")
    screen.fact("inputs", f"{report.inputs} as they were")
    for note in report.notes:
        screen.fact("note", note)
    for found in report.findings:
        screen.fact("differs", str(found))


def tell_comparison(comparison: Comparison, screen: Screen) -> None:
    """One line for each product that differs, and why that may be."""
    screen.line()
    same = comparison.products - len(comparison.differences)
    screen.fact("made again", f"{same} of {counted(comparison.products, 'product')} the same to the byte")
    for difference in comparison.differences:
        screen.fact("differs", f"{difference.name}: {difference.what}")
    for cause in comparison.causes:
        screen.fact("cause", cause)
