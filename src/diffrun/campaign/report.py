# SPDX-License-Identifier: BSD-3-Clause
"""What a campaign has found: a table of its pairs, a catalogue of its sources, the pairs that stand out."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffrun.campaign.standing import Standing, run_folder
from diffrun.errors import DiffrunError
from diffrun.files.atomic import write_bytes
from diffrun.files.tables import Column, written
from diffrun.record import read as read_record
from diffrun.repository.dataid import short_name
from diffrun.request import Request
from diffrun.runtimes import GATHER, Job, local, supervise

FOLDER, TABLE, SOURCES = "report", "pairs.csv", "sources.csv"
_TEXTS = (
    "pair",
    "state",
    "cause",
    "message",
    "band",
    "template_band",
    "raft",
    "sensor",
    "convolved",
    "digest",
    "stands_out",
)
_COUNTS = (
    "science", "template", "residual_stars", "kernel_stars", "sources", "positive", "negative", "dipoles",
    "flagged",
)  # fmt: skip
COLUMNS = tuple(
    Column(name, "U" if name in _TEXTS else "i8" if name in _COUNTS else "f8", optional=name in _COUNTS)
    for name in (
        "pair", "state", "cause", "message", "science", "template", "band", "template_band", "raft", "sensor",
        "mjd", "fwhm_arcsec", "convolved", "noise_ratio", "lag1_correlation", "residual_chi2",
        "residual_stars", "kernel_sum", "kernel_stars", "sources", "positive", "negative", "dipoles",
        "flagged", "seconds", "digest", "stands_out",
    )
)  # fmt: skip
#: What is compared among the pairs of a band, and the least difference that counts.
_COMPARED = {
    "noise_ratio": 0.05,
    "lag1_correlation": 0.02,
    "residual_chi2": 0.5,
    "kernel_sum": 0.1,
    "sources": 10.0,
}
_FAR, _ENOUGH = 5.0, 5

Row = dict[str, Any]


def write(standing: Standing) -> tuple[Path, Path | None, list[str], list[str]]:
    """Write both tables, as CSV and, beside it, as Parquet.

    Returns
    -------
    table, sources : `pathlib.Path`
        The catalogue is `None` if no pair is done.
    outliers, notes : `list` [`str`]
        Pairs that stand out, with what; what could not be read.
    """
    place = standing.folder / FOLDER
    rows, runs, notes = tables(standing)
    far = outliers(rows)
    rows = [{**row, "stands_out": "; ".join(far.get(number, ()))} for number, row in enumerate(rows)]
    with written(place / TABLE, COLUMNS) as table:
        table.add({column.name: [_typed(row.get(column.name), column) for row in rows] for column in COLUMNS})
    sources = _gather(place, runs, notes) if runs else None
    told = [f"{_named(rows[number])}: {'; '.join(texts)}" for number, texts in far.items()]
    return place / TABLE, sources, told, notes


def _named(row: Row) -> str:
    """A pair, and of several sensors which."""
    return f"{row['pair']} {short_name(row['raft'], row['sensor'])}"


def _typed(value: Any, column: Column) -> Any:
    """A value of a record if it is what the column holds."""
    if column.dtype == "U":
        return None if value is None else str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if column.dtype == "f8":
        return float(value) if number else None
    return value if number and isinstance(value, int) else None


def tables(standing: Standing) -> tuple[list[Row], list[Row], list[str]]:
    """A row for each sensor of each pair, those of done ones with their files, and what could not be read.

    The second is what the programs of the engine are given: ``folder`` and ``files`` of each run, and
    ``visit`` for the science visit.
    """
    rows: list[Row] = []
    runs: list[Row] = []
    notes: list[str] = []
    for pair in standing.done:
        folder = run_folder(standing.folder, pair)
        try:
            record = read_record(folder)
        except DiffrunError as error:
            notes.append(str(error))
            continue
        for row in _of_record(pair, record):
            rows.append(row)
            files = row.pop("files", {})
            run = {**row, "visit": row["science"], "folder": str(folder), "files": files}
            runs += [run] if files.get("diaSrc") else []
    for pair, entry in standing.failed:
        rows.append(_bare(pair, "failed") | {"cause": entry.cause, "message": entry.message})
    rows += [_bare(each.pair, "left") | {"cause": each.why} for each in standing.todo]
    return rows, runs, notes


def _bare(pair: Request, state: str) -> Row:
    return {
        "pair": pair.name, "state": state, "science": pair.science, "template": pair.template,
        "raft": pair.raft, "sensor": pair.sensor, "band": pair.filter, "template_band": pair.template_filter,
    }  # fmt: skip


def _of_record(pair: Request, record: Mapping[str, Any]) -> Iterator[Row]:
    plan, survey = record["plan"], record.get("survey", {}).get("science", {})
    spent = round(sum(record.get("seconds", {}).values()), 3)
    common = {**_bare(pair, "done"), "mjd": survey.get("mjd"), "digest": plan.get("digest"), "seconds": spent}
    common["fwhm_arcsec"] = survey.get("fwhm_arcsec")
    summaries = list(record.get("summaries", {}).values())
    for number, (science, template) in enumerate(zip(plan["science"], plan["template"], strict=True)):
        place = {"raft": science["raft"], "sensor": science["sensor"]}
        summary = next((each for each in summaries if _of_place(each, place)), None)
        if summary is None:
            summary = summaries[number] if len(summaries) == len(plan["science"]) else {}
        bands = {"band": science["filter"], "template_band": template["filter"]}
        yield {
            **common,
            **place,
            **bands,
            **_numbers(summary),
            "files": summary.get("files", {}),
        }


def _of_place(summary: Mapping[str, Any], place: Mapping[str, str]) -> bool:
    science = summary.get("science", {})
    return {key: science.get(key) for key in place} == place


def _numbers(summary: Mapping[str, Any]) -> Row:
    kernel, sources = summary.get("kernel", {}), summary.get("sources") or {}
    same = ("convolved", "noise_ratio", "lag1_correlation", "residual_chi2", "residual_stars")
    return {name: summary.get(name) for name in same} | {
        "kernel_sum": kernel.get("sum"),
        "kernel_stars": kernel.get("used"),
        "sources": sources.get("total"),
        "positive": sources.get("positive"),
        "negative": sources.get("negative"),
        "dipoles": sources.get("dipole"),
        "flagged": sources.get("flagged"),
    }


def _gather(place: Path, runs: Sequence[Row], notes: list[str]) -> Path | None:
    """One catalogue of all sources, by the program that reads catalogues."""
    made = place / SOURCES
    with listed(place, runs) as file:
        status, _ = supervise.ask(local().command(Job(GATHER, (str(file), str(made)))), notes.append)
    return made if status == 0 else None


@contextlib.contextmanager
def listed(place: Path, runs: Sequence[Row]) -> Iterator[Path]:
    """A file with one line of JSON for each run, as long as a program reads it."""
    file = place / f".runs-{os.getpid()}.jsonl"
    write_bytes(file, "".join(json.dumps(run) + "\n" for run in runs).encode())
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def outliers(rows: Sequence[Row]) -> dict[int, list[str]]:
    """The rows of which a number lies far from the median of their band: by 5 robust standard deviations.

    The deviation is 1.4826 times the median absolute deviation, and never less than what counts at all.

    Returns
    -------
    found : `dict`
        Number of the row -> what stands out in it.
    """
    bands: dict[Any, dict[int, Row]] = defaultdict(dict)
    for number, row in enumerate(rows):
        bands[row.get("band")][number] = row
    found: dict[int, list[str]] = defaultdict(list)
    for band in sorted(bands, key=str):
        for name, least in _COMPARED.items():
            values = [row[name] for row in bands[band].values() if isinstance(row.get(name), int | float)]
            if len(values) < _ENOUGH:
                continue
            middle = statistics.median(values)
            spread = 1.4826 * statistics.median(abs(value - middle) for value in values)
            for number, row in bands[band].items():
                value = row.get(name)
                if isinstance(value, int | float) and abs(value - middle) > max(_FAR * spread, least):
                    found[number].append(f"{name} {value:g}, median in {band} {middle:g}")
    return dict(sorted(found.items()))
