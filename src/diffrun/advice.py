# SPDX-License-Identifier: BSD-3-Clause
"""Advice before the work: what the survey of both visits means to the user, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from diffrun.display import Screen, counted
from diffrun.errors import AdviceError, DiffrunError
from diffrun.repository.dataid import short_name
from diffrun.verdict import NOTE, OK, STOP, Line

_NAME = 10


def parse(text: str) -> dict[str, Any]:
    """The object that the survey printed; `DiffrunError` if it is not one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DiffrunError(
            "the survey of the two visits gave no JSON object", "run with -v to see its messages"
        )
    return found


def describe(visit: Mapping[str, Any], file: str | None = None) -> str:
    """``visit 230, r band, R22 S11, seeing 0.71 arcsec``; of a plain image its file, band and seeing."""
    if file:
        return f"{file}, {visit.get('filter')} band, seeing {_arcsec(visit)}"
    name = f"visit {visit.get('visit')}, {visit.get('filter')} band"
    sensor = short_name(str(visit.get("raft")), str(visit.get("sensor")))
    return f"{name}, {sensor}, seeing {_arcsec(visit)}"


def lines(survey: Mapping[str, Any]) -> list[Line]:
    """What was checked, the survey's further warnings, and the better templates by name."""
    found = [
        Line(*(str(one.get(key, "")) for key in ("name", "verdict", "seen", "remedy")))
        for one in _list(survey, "checks")
        if isinstance(one, dict)
    ]
    found += [Line("advice", NOTE, str(warning)) for warning in _list(survey, "warnings")]
    better = [one for one in _list(survey, "better") if isinstance(one, dict)]
    if better:
        named = ", ".join(_template(one) for one in better)
        found.append(
            Line("template", NOTE, f"better {'templates' if len(better) > 1 else 'template'} here: {named}")
        )
    return found


def show(found: Iterable[Line], screen: Screen) -> None:
    """Print the lines, each with its verdict."""
    for line in found:
        screen.remark(f"{line.verdict:<4} {line.name:<{_NAME}}", line.text)


def verdict(found: Iterable[Line]) -> str:
    """The worst of the verdicts."""
    given = {line.verdict for line in found}
    return next((each for each in (STOP, NOTE) if each in given), OK)


def refuse(found: Iterable[Line]) -> None:
    """`AdviceError` if a line says stop; it names the first of them."""
    bad = [line for line in found if line.verdict == STOP]
    if bad:
        more = f" (and {counted(len(bad) - 1, 'other reason')} to stop)" if len(bad) > 1 else ""
        raise AdviceError(f"{bad[0].name}: {bad[0].seen}{more}", bad[0].remedy)


def _template(one: Mapping[str, Any]) -> str:
    overlap = one.get("overlap_fraction")
    part = f", overlap {100 * overlap:.0f} %" if isinstance(overlap, int | float) else ""
    return f"{one.get('visit')} ({one.get('filter')}, {_arcsec(one)}{part})"


def _arcsec(visit: Mapping[str, Any]) -> str:
    for key, unit in (("fwhm_arcsec", "arcsec"), ("fwhm_pixels", "px")):
        if isinstance(fwhm := visit.get(key), int | float):
            return f"{fwhm:.2f} {unit}"
    return "unknown"


def _list(survey: Mapping[str, Any], key: str) -> list[Any]:
    value = survey.get(key)
    return value if isinstance(value, list) else []
