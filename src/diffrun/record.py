# SPDX-License-Identifier: BSD-3-Clause
"""The run record: what happened, and enough to do it again. ``docs/record.md`` has every key."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffrun
from diffrun.errors import OutputError
from diffrun.files.atomic import write_bytes
from diffrun.outputs import RECORD, Output
from diffrun.plan import Plan
from diffrun.settings import Settings

SCHEMA = "diffrun.record/1"
_LARGEST = 64 * 1024 * 1024
_SHOWN = 3
#: The parts of a plan that decide its products, the most telling first.
_DECIDING = ("program", "image", "science", "template", "config", "configfiles", "inputs", "versions")


@dataclass(frozen=True)
class Happened:
    """What a run did: when, how long each stage took, what it warned of, what it measured."""

    started: datetime
    finished: datetime
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]
    survey: Mapping[str, Any]
    summaries: Mapping[str, Any]
    command: str


def make(plan: Plan, settings: Settings, happened: Happened, outputs: Iterable[Output]) -> dict[str, Any]:
    """The record as JSON has it."""
    return {
        "schema": SCHEMA,
        "diffrun": diffrun.__version__,
        "plan": plan.as_dict(),
        "settings": settings.as_dict(),
        "command": happened.command,
        "started": _utc(happened.started),
        "finished": _utc(happened.finished),
        "seconds": {stage: round(spent, 3) for stage, spent in happened.seconds.items()},
        "platform": here(),
        "inputs": [item.as_dict() for item in plan.inputs],
        "configfiles": [{**item.as_dict(), "text": _text(item.path)} for item in plan.configfiles],
        "warnings": list(happened.warnings),
        "survey": dict(happened.survey),
        "summaries": dict(happened.summaries),
        "outputs": [output.as_dict() for output in outputs],
    }


def here() -> dict[str, Any]:
    """The machine, as far as it could matter for a product."""
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpus": os.cpu_count(),
        "python": sys.version.split()[0],
        "executable": sys.executable,
    }


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``record.json``."""
    write_bytes(folder / RECORD, (json.dumps(record, indent=2, ensure_ascii=True) + "\n").encode())


def read(folder: Path) -> dict[str, Any]:
    """The record of a run folder.

    Raises
    ------
    OutputError
        If the folder has none, or one that cannot be understood.
    """
    path = folder / RECORD
    remedy = "remove it, or give another --output"
    if not path.is_file():
        raise OutputError(f"{folder} is there already and is not a run folder (it has no {RECORD})", remedy)
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("plan"), dict):
        raise OutputError(f"{path} is damaged", remedy)
    if found.get("schema") != SCHEMA:
        raise OutputError(f"{path} has the schema {found.get('schema')!r}, not {SCHEMA!r}", remedy)
    return found


def refuse_other_plan(folder: Path, record: Mapping[str, Any], plan: Plan) -> None:
    """`OutputError` with the differences, if the folder was made by another plan."""
    before, now = _flat(record["plan"]), _flat(plan.as_dict())
    if before.get("digest") == plan.digest:
        return
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    names = sorted(
        (name for name in names if _part(name) in _DECIDING), key=lambda n: (_DECIDING.index(_part(n)), n)
    )
    told = [f"{name}: {_brief(before.get(name))} -> {_brief(now.get(name))}" for name in names]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    raise OutputError(
        f"{folder} holds another plan ({', '.join(told[:_SHOWN])}{more})",
        "give another --output, or remove the folder to make it anew",
    )


def _part(name: str) -> str:
    return name.partition(".")[0]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": [1]}}`` -> ``{"a.b.0": 1}``."""
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in items:
        found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
