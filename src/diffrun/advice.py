# SPDX-License-Identifier: BSD-3-Clause
"""Advice before the work: what the survey of both visits means to the user, one line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from diffrun.errors import DiffrunError
from diffrun.repository.dataid import short_name


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


def describe(visit: Mapping[str, Any]) -> str:
    """``visit 230, r band, R22 S11, seeing 0.71 arcsec``."""
    name = f"visit {visit.get('visit')}, {visit.get('filter')} band"
    sensor = short_name(str(visit.get("raft")), str(visit.get("sensor")))
    return f"{name}, {sensor}, seeing {_arcsec(visit)}"


def lines(survey: Mapping[str, Any]) -> list[str]:
    """The survey's own warnings, then the better templates by name."""
    found = [str(warning) for warning in _list(survey, "warnings")]
    better = [one for one in _list(survey, "better") if isinstance(one, dict)]
    if better:
        named = ", ".join(_template(one) for one in better)
        found.append(f"better {'templates' if len(better) > 1 else 'template'} here: {named}")
    return found


def _template(one: Mapping[str, Any]) -> str:
    overlap = one.get("overlap_fraction")
    part = f", overlap {100 * overlap:.0f} %" if isinstance(overlap, int | float) else ""
    return f"{one.get('visit')} ({one.get('filter')}, {_arcsec(one)}{part})"


def _arcsec(visit: Mapping[str, Any]) -> str:
    fwhm = visit.get("fwhm_arcsec")
    return f"{fwhm:.2f} arcsec" if isinstance(fwhm, int | float) else "unknown"


def _list(survey: Mapping[str, Any], key: str) -> list[Any]:
    value = survey.get(key)
    return value if isinstance(value, list) else []
