# SPDX-License-Identifier: BSD-3-Clause
"""Places on the sky that somebody knows beforehand, from a CSV or ECSV file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import UsageError
from diffrun.files import textlines

_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Places:
    """Places and what they are called.

    Attributes
    ----------
    names : `tuple` [`str`, ...]
    ra, dec : `numpy.ndarray`, (N,)
        ICRS, degrees.
    """

    names: tuple[str, ...]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]


NONE = Places((), np.empty(0), np.empty(0))


def read(path: Path) -> Places:
    """The places of a file with the columns ``ra`` and ``dec`` (degrees), and perhaps ``name``.

    Separated by commas or blanks; other columns are passed over, and lines that begin with #.

    Raises
    ------
    UsageError
        With the line, for what is no place.
    """
    lines = textlines.read(path, "places", _LARGEST)
    (_, columns), *rows = lines or [(0, [])]
    if not {"ra", "dec"} <= set(columns):
        raise UsageError(f"{path} has the columns {', '.join(columns)}", "ra and dec are needed, in degrees")
    names, found = [], []
    for number, row in rows:
        values = dict(zip(columns, row, strict=False))
        found.append(_place(values, f"{path}, line {number}"))
        names.append(values.get("name", ""))
    ra, dec = np.array(found, float).reshape(-1, 2).T
    return Places(tuple(names), ra, dec)


def _place(values: dict[str, str], where: str) -> tuple[float, float]:
    try:
        ra, dec = float(values["ra"]), float(values["dec"])
    except (KeyError, ValueError):
        raise UsageError(f"{where} is no place", "give ra and dec in degrees") from None
    if not (-360 <= ra <= 360 and -90 <= dec <= 90):
        raise UsageError(f"{where} has ra {ra:g}, dec {dec:g}", "give degrees, dec from -90 to 90")
    return ra % 360, dec
