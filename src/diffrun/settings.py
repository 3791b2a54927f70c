# SPDX-License-Identifier: BSD-3-Clause
"""Settings: default < site < environment (``DIFFRUN_*``) < command line, each value with its origin."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from platformdirs import user_cache_path

from diffrun import request as asked
from diffrun import sites
from diffrun.errors import ConfigError, UsageError
from diffrun.request import Request
from diffrun.runtimes import image

PROGRAMS = ("engine", "stack")
RUNTIMES = ("native", "docker", "podman", "apptainer", "shifter")
PREFIX = "DIFFRUN_"

T = TypeVar("T")


@dataclass(frozen=True)
class Value(Generic[T]):
    """A value and who set it: ``default``, ``site laptop``, ``DIFFRUN_REPO`` or ``--repo``."""

    value: T
    origin: str


@dataclass(frozen=True)
class Settings:
    """The settings of one run, each with its origin.

    Attributes
    ----------
    site, program, runtime : `Value` of `str`
    repo : `Value` of `pathlib.Path` or `None`
        `None` stands for the Twinkles subset that comes with diffrun.
    output : `Value` of `pathlib.Path` or `None`
        The run folder; `None` stands for one under ``output_root``, named after the visits.
    output_root : `Value` of `pathlib.Path`
    cache : `Value` of `pathlib.Path`
        Where the Twinkles subset is unpacked, and calexps made of plain images are kept.
    jobs : `Value` of `int`
    image : `Value` of `str` or `None`
        `None` stands for the image that the lock files give to the program.
    """

    site: Value[str]
    program: Value[str]
    runtime: Value[str]
    repo: Value[Path | None]
    output: Value[Path | None]
    output_root: Value[Path]
    cache: Value[Path]
    jobs: Value[int]
    image: Value[str | None]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """For the record: each value as JSON has it, and its origin."""
        table = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: {"value": str(v.value) if isinstance(v.value, Path) else v.value, "origin": v.origin}
            for name, v in table.items()
        }

    def __str__(self) -> str:
        rows = self.as_dict().items()
        return "\n".join(f"{name:<12} {row['value']}  ({row['origin']})" for name, row in rows)


def _word(known: tuple[str, ...]) -> Callable[[str, str], str]:
    def parse(origin: str, text: str) -> str:
        if text not in known:
            raise UsageError(f"{origin} {text!r} is unknown", sites.nearest(text, known))
        return text

    return parse


_PARSERS: Mapping[str, Callable[[str, str], Any]] = {
    "program": _word(PROGRAMS),
    "runtime": _word(RUNTIMES),
    "repo": asked.folder,
    "output": asked.folder,
    "output_root": asked.folder,
    "cache": asked.folder,
    "jobs": asked.jobs,
    "image": image.reference,
}


def resolve(request: Request, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that a request has here.

    Raises
    ------
    UsageError, ConfigError
        For an unknown site, a value of the wrong kind, naming who set it.
    """
    env = os.environ if environment is None else environment
    site = _site(request, env)
    layers = _defaults() | _of_site(site.value) | _of_environment(env) | _of_request(request)
    return Settings(site=site, **layers)


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """One line for each ``DIFFRUN_*`` variable that is not a setting."""
    env = os.environ if environment is None else environment
    known = [PREFIX + name.upper() for name in ("site", *_PARSERS, *sites.BATCH_CHOICES)]
    strangers = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
    return [
        f"{name} is not a setting and changes nothing; {sites.nearest(name, known)}" for name in strangers
    ]


def _site(request: Request, env: Mapping[str, str]) -> Value[str]:
    if request.site is not None:
        return Value(request.site, "--site")
    if env.get("DIFFRUN_SITE"):
        return Value(env["DIFFRUN_SITE"], "DIFFRUN_SITE")
    return Value("laptop", "default")


def _defaults() -> dict[str, Value[Any]]:
    return {
        "program": Value("engine", "default"),
        "runtime": Value("native", "default"),
        "repo": Value(None, "default"),
        "output": Value(None, "default"),
        "output_root": Value(Path("diffrun-output").absolute(), "default"),
        "cache": Value(user_cache_path("diffrun", appauthor=False), "default"),
        "jobs": Value(1, "default"),
        "image": Value(None, "default"),
    }


def _of_site(site: str) -> dict[str, Value[Any]]:
    found: dict[str, Value[Any]] = {}
    for key, value in sites.read(site).items():
        if key in sites.TELLING or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ConfigError(f"site {site}: {key} is {value!r}", "give one word or number")
        if key in ("repo", "output_root", "cache") and not str(value).startswith(("/", "~")):
            raise ConfigError(f"site {site}: {key} {value!r} is relative", "give a whole path")
        found[key] = Value(_PARSERS[key](f"site {site}: {key}", str(value)), f"site {site}")
    return found


def _of_environment(env: Mapping[str, str]) -> dict[str, Value[Any]]:
    named = {key: PREFIX + key.upper() for key in _PARSERS}
    return {key: Value(_PARSERS[key](name, env[name]), name) for key, name in named.items() if env.get(name)}


def _of_request(request: Request) -> dict[str, Value[Any]]:
    found: dict[str, Value[Any]] = {}
    for key, parse in _PARSERS.items():
        value = getattr(request, key, None)
        if value is not None:
            option = f"--{key}"
            typed = key in ("program", "runtime", "image")
            found[key] = Value(parse(option, value) if typed else value, option)
    return found
