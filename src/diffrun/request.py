# SPDX-License-Identifier: BSD-3-Clause
"""What the user asked for, typed and checked as far as that can be done without looking at any file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun import frames
from diffrun.errors import ConfigError, UsageError
from diffrun.frames import Frame
from diffrun.repository.dataid import parse_filter, parse_raft, parse_sensor, parse_visit

#: What is still accepted before a run: option -> largest value, and whether it is a whole number.
LIMITS = {
    "min_coverage": (1.0, False),
    "min_stars": (10_000.0, True),
    "max_offset": (20.0, False),  # farther the engine does not move a template
    "max_noise": (1e9, False),
    "max_memory": (1e6, False),
}

_OVERRIDE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*|\[[^\]]*\])*=.+", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """One run as it was asked for; `None` where the user said nothing.

    Attributes
    ----------
    science, template : `int` or `Frame`
        Visits, or two plain images; the difference is science minus template.
    raft, sensor, filter, template_filter : `str`, optional
        In the registry's form, ``2,2`` and ``1,1``.
    config : `tuple` [`str`, ...]
        Overrides ``KEY=VALUE``, applied after all configuration files.
    configfile : `tuple` [`pathlib.Path`, ...]
        Configuration files, absolute, applied in this order after the recipe's own.
    repo, output : `pathlib.Path`, optional
        The repository, and the run folder itself.
    site, program, runtime, image : `str`, optional
    jobs : `int`, optional
        Data ids worked on at the same time.
    limits : `tuple` [(`str`, `str`), ...]
        What is still accepted before a run: name in `LIMITS`, and number as typed.
    """

    science: int | Frame
    template: int | Frame
    raft: str | None = None
    sensor: str | None = None
    filter: str | None = None
    template_filter: str | None = None
    config: tuple[str, ...] = ()
    configfile: tuple[Path, ...] = ()
    repo: Path | None = None
    output: Path | None = None
    site: str | None = None
    program: str | None = None
    runtime: str | None = None
    image: str | None = None
    jobs: int | None = None
    limits: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, typed: Mapping[str, Any]) -> Request:
        """Read what was typed, by option name; `UsageError` for the first thing that cannot be meant."""
        readers: dict[str, Callable[[str, str], Any]] = {
            "repo": folder, "output": folder, "jobs": jobs,
            "site": _as_is, "program": _as_is, "runtime": _as_is, "image": _as_is,
            "raft": _plain(parse_raft), "sensor": _plain(parse_sensor),
            "filter": _plain(parse_filter), "template_filter": _plain(parse_filter),
        }  # fmt: skip
        given = {name: typed[name] for name in readers if typed.get(name) is not None}
        found = {name: readers[name](_option(name), text) for name, text in given.items()}
        images = frames.pair(typed, folder)
        science, template = images or [visit(_option(n), typed.get(n)) for n in ("science", "template")]
        return cls(
            science=science,
            template=template,
            config=overrides(typed.get("config") or ()),
            configfile=configfiles(typed.get("configfile") or ()),
            limits=tuple((name, limit(name, typed[name])) for name in LIMITS if typed.get(name) is not None),
            **found,
        )

    @property
    def name(self) -> str:
        """The run's name, ``230-250``, with raft, sensor and filters where the user chose them."""
        if isinstance(self.science, Frame) and isinstance(self.template, Frame):
            return f"{self.science.name}-{self.template.name}"
        parts = [f"{self.science}{_suffix(self.filter)}-{self.template}{_suffix(self.template_filter)}"]
        if self.raft:
            parts.append("R" + self.raft.replace(",", ""))
        if self.sensor:
            parts.append("S" + self.sensor.replace(",", ""))
        return "-".join(parts)


def _suffix(filter_name: str | None) -> str:
    return filter_name or ""


def visit(option: str, text: str | None) -> int:
    """A visit as typed; `UsageError` for anything but a plain number, or if it is missing."""
    if text is None:
        raise UsageError(f"{option} is missing", "give both visits: diffrun --science 230 --template 250")
    try:
        return parse_visit(text)
    except UsageError:
        raise UsageError(
            f"{option} {text!r} is not a visit, and not a file that is there",
            f"give a visit's number, as in {option} 230, or a FITS image",
        ) from None


def jobs(option: str, text: str) -> int:
    """A number of jobs from 1 to 1024; `UsageError` for anything else."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 1024:
        raise UsageError(f"{option} {text!r} is not a number of jobs", "give a number from 1 to 1024")
    return int(text)


def limit(name: str, text: str) -> str:
    """What an option of `LIMITS` was given, as it was typed; `UsageError` if it is no such number."""
    largest, whole = LIMITS[name]
    pattern = r"[0-9]{1,9}" if whole else r"([0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9})"
    if not re.fullmatch(pattern, text) or float(text) > largest:
        kind = "whole number" if whole else "number"
        raise UsageError(
            f"{_option(name)} {text!r} is not understood", f"give a {kind} from 0 to {largest:g}"
        )
    return text


def folder(option: str, text: str) -> Path:
    """A path made absolute without following links; `UsageError` for one that no file can have."""
    if not text or "\0" in text:
        raise UsageError(f"{option} {text!r} is not a path", "give the path of a folder")
    path = Path(text).expanduser().absolute()
    return path.resolve() if ".." in path.parts else path


def overrides(texts: Sequence[str]) -> tuple[str, ...]:
    """``KEY=VALUE`` overrides; `ConfigError` for one without its two parts (the program knows the keys)."""
    for text in texts:
        if not _OVERRIDE.fullmatch(text):
            raise ConfigError(f"--config {text!r} is not KEY=VALUE", "write it as --config doMerge=True")
    return tuple(texts)


def configfiles(texts: Sequence[str]) -> tuple[Path, ...]:
    """Configuration files, absolute; `ConfigError` for one that is not there."""
    found = tuple(folder("--configfile", text) for text in texts)
    for path in found:
        if not path.is_file():
            raise ConfigError(f"--configfile {str(path)!r} is not a file", "give a configuration file")
    return found


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _as_is(_option: str, text: str) -> str:
    return text


def _plain(parse: Callable[[str], str]) -> Callable[[str, str], str]:
    """A parser of id values, with the option named in what it refuses."""

    def read(option: str, text: str) -> str:
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{option} {text!r} cannot be understood", error.remedy) from None

    return read
