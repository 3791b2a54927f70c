# SPDX-License-Identifier: BSD-3-Clause
"""The pairs of a campaign, from a CSV or ECSV file or from visits on the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from diffrun.errors import UsageError
from diffrun.files import textlines
from diffrun.files.atomic import write_bytes
from diffrun.frames import Frame
from diffrun.request import Request

COLUMNS = ("science", "template", "raft", "sensor", "filter", "template_filter")
_LARGEST = 256 * 1024 * 1024


def read(path: Path) -> tuple[Request, ...]:
    """The pairs of a file, each once, in its order.

    Parameters
    ----------
    path : `pathlib.Path`
        CSV with a line of column names, or ECSV: ``science``, ``template``, and where wanted ``raft``,
        ``sensor``, ``filter``, ``template_filter``. An ECSV file may be separated by blanks.

    Raises
    ------
    UsageError
        With the line, for what cannot be meant.
    """
    lines = textlines.read(path, "pairs", _LARGEST)
    if not lines:
        raise UsageError(f"{path} has no line", f"begin it with: {','.join(COLUMNS[:2])}")
    (_, names), *rows = lines
    strange = [name for name in names if name not in COLUMNS]
    if strange or len(set(names)) < len(names) or not {"science", "template"} <= set(names):
        raise UsageError(
            f"{path} has the columns {', '.join(names)}",
            f"science and template are needed, and of {', '.join(COLUMNS[2:])} what is wanted",
        )
    found: dict[str, Request] = {}
    for number, row in rows:
        place = f"{path}, line {number}"
        if len(row) != len(names):
            raise UsageError(f"{place} has {len(row)} values", f"give {len(names)}: {', '.join(names)}")
        given = {name: text for name, text in zip(names, row, strict=True) if text}
        pair = _pair(given, place)
        found.setdefault(pair.name, pair)
    return tuple(found.values())


def _pair(given: dict[str, str], place: str) -> Request:
    try:
        return _of_numbers(Request.parse(given))
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", error.remedy) from None


def _of_numbers(pair: Request) -> Request:
    if isinstance(pair.science, Frame):
        raise UsageError(f"{pair.science.path} is a file", "a campaign takes visits of a repository")
    return pair


def of_visits(given: dict[str, str | None]) -> tuple[Request, ...]:
    """The pairs of ``--science 230^185595 --template 195529``: every science visit with every template."""
    for side in ("science", "template"):
        if not given.get(side):
            raise UsageError(f"--{side} is missing", "give both, or a file of pairs with --pairs")
    found: dict[str, Request] = {}
    for science in str(given["science"]).split("^"):
        for template in str(given["template"]).split("^"):
            pair = _of_numbers(Request.parse({**given, "science": science, "template": template}))
            if pair.science != pair.template:
                found.setdefault(pair.name, pair)
    if not found:
        raise UsageError("each science visit is its own template", "give another --template")
    return tuple(found.values())


def write(path: Path, pairs: Iterable[Request]) -> None:
    """A file that `read` reads."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([getattr(pair, name) or "" for name in COLUMNS] for pair in pairs)
    write_bytes(path, text.getvalue().encode())
