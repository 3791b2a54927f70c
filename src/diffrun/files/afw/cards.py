# SPDX-License-Identifier: BSD-3-Clause
"""What the cards of an exposure's headers mean: origin, mask planes, dates, numbers (afw.md 1.2 to 1.4)."""

from __future__ import annotations

import bisect
import datetime
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.exposure import DEFAULT_PLANES

_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)(\.\d{1,9})?(Z?)")
_MJD_EPOCH = datetime.date(1858, 11, 17).toordinal()
_DAY = 86400 * 10**9
#: Months (year 100 + month) that began with a new TAI - UTC: 10 s, then 1 s more each (IERS Bulletin C).
_LEAPS = (
    *(1972_01, 1972_07, *range(1973_01, 1981_01, 100), 1981_07, 1982_07, 1983_07, 1985_07, 1988_01, 1990_01),
    *(1991_01, 1992_07, 1993_07, 1994_07, 1996_01, 1997_07, 1999_01, 2006_01, 2009_01, 2012_07, 2015_07),
    2017_01,
)
_LAST_BIT = 31
_MAX_PLANES = 31  # the sign bit of int32 is left alone
_OWN = re.compile(
    r"SIMPLE|BITPIX|EXTEND|GCOUNT|PCOUNT|XTENSION|TFIELDS|BSCALE|BZERO|BLANK|NAXIS\d*|Z[A-Z]+\d*|CHECKSUM|DATASUM"
    r"|COMMENT|HISTORY|INHERIT|EXTTYPE|EXTNAME|EXTVER|AR_HDU|AR_N.*|.*_ID|ARCHIVE_ID_.*|EXPINFO_V|FILTER|EXPTIME"
    r"|TIME-MID|DATE-AVG|TIMESYS|FLUXMAG0(ERR)?|LTV\d|MP_.*"
    r"|(WCSAXES|RADESYS|RADECSYS|EQUINOX|LONPOLE|LATPOLE|CTYPE\d|CUNIT\d|CRVAL\d|CRPIX\d|CDELT\d|CD\d_\d|PC\d_\d)A?"
    r"|(A|B|AP|BP)_(ORDER|\d_\d)|DATE|BUNIT|DETNAME|DETSER|"
)


def origin(header: Mapping[str, Any]) -> tuple[int, int]:
    """Parent pixel of the first pixel, from the A-WCS; (0, 0) without one."""
    if float(header.get("CRPIX1A", 0)) != 1 or float(header.get("CRPIX2A", 0)) != 1:
        return 0, 0
    return round(float(header.get("CRVAL1A", 0))), round(float(header.get("CRVAL2A", 0)))


def metadata(header: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """The cards that neither FITS nor the reader and writer of exposures own; the last of a repeated one."""
    kept: dict[str, bool | int | float | str] = {}
    for name, value in header.items():
        if not _OWN.fullmatch(name) and isinstance(value, (bool, int, float, str)):
            kept[name] = value
    return kept


def number(header: Mapping[str, Any], name: str) -> float:
    """A number, perhaps given as a string; NaN where there is none."""
    try:
        return float(header.get(name, np.nan))
    except (TypeError, ValueError):
        return float("nan")


def middle(header: Mapping[str, Any]) -> float:
    """TAI as a modified Julian date, of the middle of the exposure; NaN where it isn't given."""
    text, system = str(header.get("DATE-AVG", "")), str(header.get("TIMESYS", "")).strip()
    if text and system == "TAI":
        return _nanoseconds(text, "DATE-AVG") / _DAY
    text = str(header.get("TIME-MID", ""))
    if not text or text.startswith("1969-12-31"):
        return float("nan")
    utc = _nanoseconds(text, "TIME-MID")
    return (utc + _leap(utc) * 10**9) / _DAY


def date_cards(mjd: float) -> dict[str, str]:
    """The middle of the exposure in TAI (read by today's afw) and UTC (read by 12.1)."""
    if not np.isfinite(mjd):
        return {}
    tai = round(mjd * 86400 * 10**6) * 1000
    utc = tai - _leap(tai) * 10**9
    return {"TIME-MID": f"{_iso(utc)}Z", "DATE-AVG": _iso(tai), "TIMESYS": "TAI"}


def plane_bits(header: Mapping[str, Any]) -> dict[str, int]:
    """The mask planes that a header names, ``MP_NAME = bit``.

    Raises
    ------
    diffrun.errors.DataError
        If a bit is out of range or has two names.
    """
    found: dict[str, int] = {}
    for name, value in header.items():
        if not name.startswith("MP_"):
            continue
        bit = int(value)
        if bit != value or not 0 <= bit <= _LAST_BIT or bit in found.values():
            raise DataError(f"the mask plane {name[3:]} has the bit {value}", "make the file anew")
        found[name[3:]] = bit
    return found


def renumber(mask: NDArray[np.int32], bits: Mapping[str, int]) -> tuple[NDArray[np.int32], dict[str, int]]:
    """Give the planes of a mask the default bits, and further planes the next ones, in the file's order.

    Parameters
    ----------
    mask : `numpy.ndarray`, (ny, nx), int32
    bits : `dict`
        The file's planes.

    Returns
    -------
    mask : `numpy.ndarray`, (ny, nx), int32
        Without any bit that has no name.
    planes : `dict`
        Default planes, then the file's further ones.

    Raises
    ------
    diffrun.errors.DataError
        If there are more planes than an int32 can hold.
    """
    planes = dict(DEFAULT_PLANES)
    for name in sorted(bits, key=lambda name: bits[name]):
        planes.setdefault(name, len(planes))
    if len(planes) > _MAX_PLANES:
        raise DataError(f"the mask has {len(planes)} planes, more than {_MAX_PLANES}", "make the file anew")
    used = int(np.bitwise_or.reduce(mask, axis=None)) & 0xFFFFFFFF if mask.size else 0
    moves = [(old, planes[name]) for name, old in bits.items() if used >> old & 1]
    if sum(1 << old for old, _ in moves) == used and all(old == new for old, new in moves):
        return mask, planes
    moved = np.zeros(mask.shape, np.uint32)
    for top in range(0, len(mask), 64):  # by bands: no plane in between
        band = mask[top : top + 64].view(np.uint32)
        for old, new in moves:
            moved[top : top + 64] |= ((band >> np.uint32(old)) & np.uint32(1)) << np.uint32(new)
    return moved.view(np.int32), planes


def _nanoseconds(text: str, card: str) -> int:
    """Nanoseconds since the epoch of the modified Julian date."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise DataError(f"{card} is {text!r}, no ISO 8601 date", "correct the header")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    days = datetime.date(year, month, day).toordinal() - _MJD_EPOCH
    fraction = round(float(match.group(7) or 0) * 1e9)
    return days * _DAY + (hour * 3600 + minute * 60 + second) * 10**9 + fraction


def _iso(nanoseconds: int) -> str:
    """ISO 8601 with nine decimals."""
    days, rest = divmod(nanoseconds, _DAY)
    seconds, fraction = divmod(rest, 10**9)
    date = datetime.date.fromordinal(days + _MJD_EPOCH).isoformat()
    return f"{date}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:09d}"


def _leap(nanoseconds: int) -> int:
    """TAI - UTC in whole seconds on that day; 0 before 1972."""
    date = datetime.date.fromordinal(nanoseconds // _DAY + _MJD_EPOCH)
    passed = bisect.bisect(_LEAPS, date.year * 100 + date.month)
    return passed + 9 if passed else 0
