# SPDX-License-Identifier: BSD-3-Clause
"""Data ids of obs_lsstSim: their keys, every spelling they are typed in, and the ids computed from them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from diffrun.errors import UsageError

#: The keys of a calexp, in the order of the stack's own message.
KEYS = ("filter", "raft", "sensor", "visit")

#: Today's names of the same keys.
ALIASES: Mapping[str, str] = {
    "ccd": "sensor",
    "raftName": "raft",
    "detectorName": "sensor",
    "sensorName": "sensor",
    "ccdName": "sensor",
    "band": "filter",
}

#: Visits must leave 9 of the 41 bits of ``ccdExposureId`` to the sensor.
LARGEST_VISIT = (1 << 32) - 1

_RAFT = re.compile(r"R(\d)(\d)|(\d),(\d)", re.ASCII)
_SENSOR = re.compile(r"S(\d)(\d)([AB])?|(\d),(\d)(?:,([AB]))?", re.ASCII)
_DETECTOR = re.compile(r"R(\d)(\d)_S(\d)(\d)([AB])?|R:(\d),(\d) S:(\d),(\d)(?:,([AB]))?", re.ASCII)
_FILTER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+~.-]*", re.ASCII)
_VISIT = re.compile(r"0|[1-9]\d*", re.ASCII)


def parse_visit(text: str) -> int:
    """The visit number, or `UsageError` for anything but a plain decimal number that fits in its ids."""
    if not _VISIT.fullmatch(text):
        raise UsageError(f"Cannot cast value {text!r} to int for ID key 'visit'", "write it as visit=230")
    if len(text) > 10 or int(text) > LARGEST_VISIT:
        raise UsageError(f"visit={text} is too large", f"the largest visit is {LARGEST_VISIT}")
    return int(text)


def parse_raft(text: str) -> str:
    """``R22`` or ``2,2`` -> ``2,2``; `UsageError` for any other form."""
    match = _RAFT.fullmatch(text)
    if not match:
        raise UsageError(f"Invalid raft identifier: {text!r}", "write it as raft=2,2 or raft=R22")
    return ",".join(group for group in match.groups() if group)


def parse_sensor(text: str) -> str:
    """``S11`` or ``1,1`` (``1,1,A`` for half sensors) -> ``1,1``; `UsageError` for any other form."""
    match = _SENSOR.fullmatch(text)
    if not match:
        raise UsageError(f"Invalid sensor identifier: {text!r}", "write it as sensor=1,1 or sensor=S11")
    return ",".join(group for group in match.groups() if group)


def parse_filter(text: str) -> str:
    """The filter's name; `UsageError` if it could not be part of a path."""
    if not _FILTER.fullmatch(text):
        raise UsageError(f"Invalid filter name: {text!r}", "write it as filter=r")
    return text


#: Bits of a source id below those of the exposure's.
SOURCE_BITS = 23


@dataclass(frozen=True, order=True)
class DataId:
    """One sensor of one visit.

    Attributes
    ----------
    visit : `int`
    filter : `str`
    raft, sensor : `str`
        As the registry has them, ``2,2`` and ``1,1``.
    """

    visit: int
    filter: str
    raft: str
    sensor: str

    def __post_init__(self) -> None:
        """Refuse what no registry or command line may put into a path."""
        parse_visit(str(self.visit))
        parse_filter(self.filter)
        if parse_raft(self.raft) != self.raft or parse_sensor(self.sensor) != self.sensor:
            raise UsageError(f"raft {self.raft!r}, sensor {self.sensor!r} are not in the form 2,2 and 1,1")

    def as_dict(self) -> dict[str, int | str]:
        """The four keys and values."""
        return {"visit": self.visit, "filter": self.filter, "raft": self.raft, "sensor": self.sensor}

    @property
    def ccd_exposure_id(self) -> int:
        """``ccdExposureId`` of LsstSimMapper: the visit shifted by 9 bits, plus the sensor's number."""
        r1, r2 = (int(digit) for digit in self.raft.split(","))
        s1, s2 = (int(digit) for digit in self.sensor.split(",")[:2])
        return (self.visit << 9) + (r1 * 5 + r2) * 10 + (s1 * 3 + s2)

    @property
    def detector(self) -> str:
        """The sensor's name in the camera, ``R:2,2 S:1,1``."""
        return f"R:{self.raft} S:{self.sensor}"

    def __str__(self) -> str:
        return str(self.as_dict())


def short_name(raft: str, sensor: str) -> str:
    """``R22 S11``, the form of paths and of today's ids."""
    return f"R{raft.replace(',', '')} S{sensor.replace(',', '')}"


def parse_id(pairs: Iterable[tuple[str, str]]) -> dict[str, int | str]:
    """What the user typed as ``key=value``, under the stack's keys and in the registry's form.

    Parameters
    ----------
    pairs : iterable of (`str`, `str`)
        Keys and values as typed; aliases of keys (`ALIASES`) and of values are understood.

    Returns
    -------
    known : `dict`
        Any of ``visit`` (`int`), ``filter``, ``raft``, ``sensor``.

    Raises
    ------
    UsageError
        For a key that a calexp does not have, a value of the wrong form, or two values for one key.
    """
    known: dict[str, int | str] = {}
    for typed, text in pairs:
        for key, value in _parse_pair(typed, text).items():
            if known.setdefault(key, value) != value:
                raise UsageError(f"{key} is given twice in one ID: {known[key]!r} and {value!r}")
    return known


def canonical_key(typed: str) -> str:
    """The stack's key for a typed one; `UsageError` listing the valid ones if there is none."""
    key = ALIASES.get(typed, typed)
    if key not in KEYS:
        near = difflib.get_close_matches(typed, [*KEYS, *ALIASES], n=1, cutoff=0.75)
        remedy = f"did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"Unrecognized ID key {typed!r}; valid keys are: {list(KEYS)}", remedy)
    return key


def _parse_pair(typed: str, text: str) -> dict[str, int | str]:
    key = canonical_key(typed)
    if key == "visit":
        return {key: parse_visit(text)}
    if key == "filter":
        return {key: parse_filter(text)}
    if key == "raft":
        return {key: parse_raft(text)}
    both = _DETECTOR.fullmatch(text)
    if both:
        first, second, *rest = (group for group in both.groups() if group)
        return {"raft": f"{first},{second}", "sensor": ",".join(rest)}
    return {key: parse_sensor(text)}
