# SPDX-License-Identifier: BSD-3-Clause
"""What a job asks Slurm for: default < site < environment < command line, each value with its origin."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from diffrun import sites
from diffrun.errors import ConfigError, UsageError
from diffrun.settings import PREFIX, Value
from diffrun.sites import BATCH_CHOICES

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:+@&|*()\[\]=/-]{0,199}", re.ASCII)
_TIME = re.compile(r"(?:([0-9]{1,3})-)?([0-9]{1,4}):([0-9]{2}):([0-9]{2})", re.ASCII)
_MEMORY = re.compile(r"[1-9][0-9]{0,6}[KMGT]?", re.ASCII)
_LONGEST_GRACE = 3600


@dataclass(frozen=True)
class Resources:
    """What a job asks for; `None` leaves the choice to Slurm.

    Attributes
    ----------
    account, qos, partition, constraint, licenses, memory : `Value` of `str` or `None`
    time : `Value` of `int`
        The time limit in seconds.
    grace : `Value` of `int`
        Seconds before the limit at which the job is told to end.
    shifter_plugin : `Value` of `bool`
        Whether this Slurm knows ``--image`` and ``--volume``.
    nodes : `Value` of `int`
        Nodes of one job of a campaign by Parsl; any other job has a part of one node.
    """

    account: Value[str | None]
    qos: Value[str | None]
    partition: Value[str | None]
    constraint: Value[str | None]
    licenses: Value[str | None]
    memory: Value[str | None]
    time: Value[int]
    grace: Value[int]
    shifter_plugin: Value[bool]
    nodes: Value[int]

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value as typed, origin."""
        found = [(item.name, getattr(self, item.name)) for item in fields(self)]
        return [(name, _shown(name, value.value), value.origin) for name, value in found]


def clock(seconds: int) -> str:
    """``1-02:30:00`` as Slurm writes it; without days ``02:30:00``."""
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "none"
    return clock(value) if name == "time" else str(value)


def _word(origin: str, text: str) -> str:
    if not _WORD.fullmatch(text):
        raise UsageError(f"{origin} {text!r} is not a word that Slurm takes", "give one word without blanks")
    return text


def seconds(origin: str, text: str) -> int:
    """A time limit: ``HH:MM:SS``, ``DAYS-HH:MM:SS`` or whole minutes."""
    if re.fullmatch(r"[1-9][0-9]{0,5}", text, re.ASCII):
        return 60 * int(text)
    found = _TIME.fullmatch(text)
    if not found or int(found[3]) > 59 or int(found[4]) > 59:
        raise UsageError(f"{origin} {text!r} is not a time", "write HH:MM:SS, or whole minutes")
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    total = ((24 * days + hours) * 60 + minutes) * 60 + rest
    if not total:
        raise UsageError(f"{origin} {text!r} is no time at all", "write HH:MM:SS, or whole minutes")
    return total


def _memory(origin: str, text: str) -> str:
    if not _MEMORY.fullmatch(text):
        raise UsageError(f"{origin} {text!r} is not an amount of memory", "write 4G or 4000M")
    return text


def _grace(origin: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or int(text) > _LONGEST_GRACE:
        raise UsageError(f"{origin} {text!r} is not a number of seconds", f"give 0 to {_LONGEST_GRACE}")
    return int(text)


def _switch(origin: str, text: str) -> bool:
    if text not in ("True", "False"):
        raise UsageError(f"{origin} {text!r} is not true or false", "write true or false")
    return text == "True"


def _nodes(origin: str, text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text, re.ASCII):
        raise UsageError(f"{origin} {text!r} is not a number of nodes", "give a whole number from 1 on")
    return int(text)


_PARSERS: Mapping[str, Callable[[str, str], Any]] = {
    "account": _word,
    "qos": _word,
    "partition": _word,
    "constraint": _word,
    "licenses": _word,
    "memory": _memory,
    "time": seconds,
    "grace": _grace,
    "shifter_plugin": _switch,
    "nodes": _nodes,
}
_DEFAULTS: Mapping[str, Any] = {"time": 1800, "grace": 60, "shifter_plugin": False, "nodes": 1}


def resolve(
    site: str, typed: Mapping[str, str | None], environment: Mapping[str, str] | None = None
) -> Resources:
    """What a job asks for at a site.

    The account is also read from ``SBATCH_ACCOUNT``, where a site's own users keep it.

    Raises
    ------
    UsageError, ConfigError
        For a value that Slurm would not take, naming who set it.
    """
    env = os.environ if environment is None else environment
    found: dict[str, Value[Any]] = {name: Value(_DEFAULTS.get(name), "default") for name in _PARSERS}
    found |= _of_site(site)
    if env.get("SBATCH_ACCOUNT"):
        found["account"] = Value(_word("SBATCH_ACCOUNT", env["SBATCH_ACCOUNT"]), "SBATCH_ACCOUNT")
    for name in BATCH_CHOICES:
        variable = PREFIX + name.upper()
        for origin, text in ((variable, env.get(variable)), (f"--{name}", typed.get(name))):
            if text:
                found[name] = Value(_PARSERS[name](origin, text), origin)
    made = Resources(**found)
    if made.grace.value >= made.time.value:
        raise UsageError(
            f"a time limit of {clock(made.time.value)} ({made.time.origin}) leaves nothing before the last "
            f"{made.grace.value} s, in which a job is told to end",
            "give more time",
        )
    return made


def _of_site(site: str) -> dict[str, Value[Any]]:
    found = {}
    for name, value in (sites.read(site).get("batch") or {}).items():
        if name == "needs" or value is None:
            continue
        origin = f"site {site}: batch: {name}"
        if not isinstance(value, str | int):
            raise ConfigError(f"{origin} is {value!r}", "give one word or number")
        found[name] = Value(_PARSERS[name](origin, str(value)), f"site {site}")
    return found


def needed(site: str) -> tuple[str, ...]:
    """What a site leaves to its user; `ConfigError` if its ``needs`` is not a list of choices."""
    names = (sites.read(site).get("batch") or {}).get("needs") or []
    if not isinstance(names, list) or not all(name in BATCH_CHOICES for name in names):
        raise ConfigError(f"site {site}: batch: needs is {names!r}", f"list of {', '.join(BATCH_CHOICES)}")
    return tuple(names)


def require(site: str, resources: Resources) -> None:
    """`UsageError` naming the first value that the site leaves to its user and that nobody gave."""
    for name in needed(site):
        if getattr(resources, name).value is None:
            more = " or SBATCH_ACCOUNT" if name == "account" else ""
            raise UsageError(
                f"a job at the site {site} needs --{name}",
                f"give it, or set {PREFIX}{name.upper()}{more}",
            )
