# SPDX-License-Identifier: BSD-3-Clause
"""The configuration as text: ``config/deepDiff.py`` in the stack's format, its comparison, ``--show config``.

The format is that of ``Config.saveToStream`` of pex_config 12.1, so that the stack can load it. The fields
that the stack does not have stand in comments that only this module reads.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffrun.engine import overrides
from diffrun.engine.config import CONFIG_CLASS, OWN_FIELDS, ImageDifferenceConfig, usual
from diffrun.engine.configtree import Item, assign, walk
from diffrun.engine.targets import TARGETS
from diffrun.errors import ConfigError

_OWN = re.compile(r"^#diffrun config\.(\w+)='(\w+)'$", re.MULTILINE | re.ASCII)
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Difference:
    """One field that differs between a stored configuration and the present one."""

    path: str
    stored: Any
    present: Any

    def __str__(self) -> str:
        return f"config.{self.path}: {self.stored!r} is stored, {self.present!r} is asked for"


def to_text(config: ImageDifferenceConfig) -> str:
    """The configuration as the stack saves it."""
    module = CONFIG_CLASS.rpartition(".")[0]
    head = (
        f"import {module}\n"
        f"assert type(config)=={CONFIG_CLASS}, 'config is of type %s.%s instead of {CONFIG_CLASS}' "
        "% (type(config).__module__, type(config).__name__)\n"
    )
    return head + "".join(_blocks(config))


def _blocks(config: ImageDifferenceConfig) -> Iterator[str]:
    """Text of each field that is written, with its documentation."""
    targets = usual()
    for item in walk(config):
        doc = "".join(f"# {line}\n" for line in item.doc.splitlines())
        if item.path in OWN_FIELDS:
            yield f"{doc}#diffrun config.{item.path}={item.value!r}\n\n"
        elif item.kind != "target":
            yield f"{doc}config.{item.path}={item.value!r}\n\n"
        elif item.value != targets[item.path]:
            yield _retarget(item)


def _retarget(item: Item) -> str:
    target = TARGETS[item.value]
    config_class = f"{target.__module__}.{target.ConfigClass.__name__}"  # type: ignore[attr-defined]
    return (
        f"import {target.__module__}\n"
        f"config.{item.path}.retarget(target={item.value}, ConfigClass={config_class})\n\n"
    )


def read_stored(path: Path) -> ImageDifferenceConfig:
    """A stored configuration, ours or the stack's; `ConfigError` if it cannot be read."""
    config = ImageDifferenceConfig()
    try:
        overrides.apply(config, overrides.read_configfile(path))
        for name, value in _OWN.findall(path.read_text(encoding="utf-8")):
            assign(config, name, value)
    except ConfigError as error:
        raise ConfigError(
            f"Unable to read stored config file: {error.message}", "consider using --clobber-config"
        ) from None
    return config


def compare(stored: ImageDifferenceConfig, present: ImageDifferenceConfig) -> list[Difference]:
    """The fields that differ; of alternatives, only those selected in either (floats within 1e-8)."""
    old = {item.path: item for item in walk(stored)}
    new = {item.path: item for item in walk(present)}
    found = []
    for path in {**old, **new}:
        if path not in old or path not in new:
            continue  # below a task that was retargeted, which is itself a difference
        if (old[path].active or new[path].active) and not _same(old[path].value, new[path].value):
            found.append(Difference(path, old[path].value, new[path].value))
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        try:
            return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        except TypeError:
            return False
    return bool(one == other)


def show(config: ImageDifferenceConfig, pattern: str | None) -> Iterator[str]:
    """What ``--show config[=GLOB]`` prints: all, or the fields whose ``config.name`` matches."""
    if pattern is None:
        yield to_text(config)
        return
    bare = pattern.removesuffix(":NOIGNORECASE")
    ignore_case = bare == pattern
    if ignore_case and pattern != pattern.lower():
        yield f'Matching "{pattern}" without regard to case (append :NOIGNORECASE to prevent this)\n'
    matches = re.compile(fnmatch.translate(bare), re.IGNORECASE if ignore_case else 0)
    for block in _blocks(config):
        name = block.rstrip().rpartition("\n")[2].removeprefix("#diffrun ").partition("=")[0]
        if matches.search(name):
            yield f"\n{block.rstrip()}\n"


def show_tasks(config: ImageDifferenceConfig) -> Iterator[str]:
    """What ``--show tasks`` prints."""
    yield "Subtasks:\n"
    for item in sorted((item for item in walk(config) if item.kind == "target"), key=lambda item: item.path):
        yield f"{item.path}: {item.value}\n"
