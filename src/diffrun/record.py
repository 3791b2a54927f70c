# SPDX-License-Identifier: BSD-3-Clause
"""The run record: what happened, and enough to do it again. ``docs/record.md`` has every key."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import pwd
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffrun
from diffrun.errors import OutputError
from diffrun.files.atomic import write_bytes
from diffrun.frames import BESIDE, typed_again
from diffrun.outputs import RECORD, Output
from diffrun.plan import Plan
from diffrun.settings import Settings

SCHEMA = "diffrun.record/2"
#: Every schema that can be read; the first had no seal, and less of the machine.
READABLE = ("diffrun.record/1", SCHEMA)
#: What a batch system or Shifter says of a job, where it runs.
BATCH = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SHIFTER_IMAGE",
)
_LARGEST = 64 * 1024 * 1024
_SHOWN = 3
#: Options whose value is a path; those of both sides are too, where they name files.
_PATHS = (
    "--repo", "--output", "--configfile",
    *(f"--{side}-{role}" for side in ("science", "template") for role in BESIDE),
)  # fmt: skip
#: The parts of a plan that decide its products, the most telling first.
_DECIDING = (
    "program",
    "image",
    "science",
    "template",
    "options",
    "config",
    "configfiles",
    "inputs",
    "versions",
)


@dataclass(frozen=True)
class Happened:
    """What a run did: when, how long each stage took, what it warned of, what it measured, and with what."""

    started: datetime
    finished: datetime
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]
    survey: Mapping[str, Any]
    summaries: Mapping[str, Any]
    command: str
    environment: Mapping[str, str]
    blas: str
    links: Mapping[str, str]
    prepared: Mapping[str, Any] = field(default_factory=dict)


def make(plan: Plan, settings: Settings, happened: Happened, outputs: Iterable[Output]) -> dict[str, Any]:
    """The record as JSON has it."""
    return {
        "schema": SCHEMA,
        "diffrun": diffrun.__version__,
        "plan": plan.as_dict(),
        "settings": settings.as_dict(),
        "argv": argv(plan),
        "command": happened.command,
        "environment": dict(happened.environment),
        "exit": {"code": 0, "meaning": "done"},
        "started": _utc(happened.started),
        "finished": _utc(happened.finished),
        "seconds": {stage: round(spent, 3) for stage, spent in happened.seconds.items()},
        "platform": {**here(), "blas": happened.blas},
        "batch": {name: os.environ[name] for name in BATCH if name in os.environ},
        "inputs": [item.as_dict() for item in plan.inputs],
        "configfiles": [{**item.as_dict(), "text": _text(item.path)} for item in plan.configfiles],
        **({"prepared": dict(happened.prepared)} if happened.prepared else {}),
        "warnings": list(happened.warnings),
        "survey": dict(happened.survey),
        "summaries": dict(happened.summaries),
        "links": dict(happened.links),
        "outputs": [output.as_dict() for output in outputs],
        "datalad_run": datalad_run(plan),
    }


def argv(plan: Plan) -> list[str]:
    """The ``diffrun`` command that does the same from any folder: pairs of option and value."""
    words = ["diffrun", *(_words_of_images(plan) if plan.prepare else _words_of_visits(plan))]
    words += [word for item in plan.configfiles[1:] for word in ("--configfile", str(item.path))]
    words += [word for override in plan.config for word in ("--config", override)]
    words += [word for name, value in plan.limits for word in (f"--{name.replace('_', '-')}", value)]
    words += ["--site", plan.site, "--program", plan.program, "--runtime", plan.runtime]
    words += ["--image", plan.image.name] if plan.image else []
    return [*words, "--jobs", str(plan.jobs), "--output", str(plan.output)]


def _words_of_visits(plan: Plan) -> Iterable[str]:
    yield from ("--science", str(plan.science[0].visit), "--template", str(plan.template[0].visit))
    for option, side, key in (
        ("--filter", plan.science, "filter"),
        ("--template-filter", plan.template, "filter"),
        ("--raft", plan.science, "raft"),
        ("--sensor", plan.science, "sensor"),
    ):
        values = {str(data_id.as_dict()[key]) for data_id in side}
        yield from (option, *values) if len(values) == 1 else ()
    yield from () if plan.own_subset else ("--repo", str(plan.repository))


def _words_of_images(plan: Plan) -> Iterable[str]:
    science, template = plan.prepare
    for name, text in typed_again(science.frame, template.frame).items():
        yield from (f"--{name.replace('_', '-')}", text)


def datalad_run(plan: Plan) -> dict[str, Any]:
    """What ``datalad rerun`` needs, for a dataset whose root is the folder that holds the run folder."""
    root = plan.output.parent
    within = [os.path.relpath(item.path, root) for item in (*plan.inputs, *plan.configfiles[1:])]
    paths = (*_PATHS, "--science", "--template") if plan.prepare else _PATHS
    command = [os.path.relpath(w, root) if before in paths else w for before, w in _after(argv(plan))]
    return {
        # datalad fills in braces
        "cmd": shlex.join(command).replace("{", "{{").replace("}", "}}"),
        "chain": [],
        "inputs": within,
        "extra_inputs": [],
        "outputs": [plan.output.name],
        "pwd": ".",
        "dsid": None,
        "exit": 0,
    }


def _after(words: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(["", *words], words, strict=False)


def here() -> dict[str, Any]:
    """The machine and the user, as far as they could matter for a product."""
    return {
        "host": socket.gethostname(),
        "user": _user(),
        "system": platform.platform(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpus": os.cpu_count(),
        "python": sys.version.split()[0],
        "executable": sys.executable,
    }


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a number without a name, as in many containers
        return str(os.getuid())


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``record.json``, closed by its seal."""
    write_bytes(folder / RECORD, _bytes({**record, "seal": _seal(record)}))


def is_sealed(content: bytes, record: Mapping[str, Any]) -> bool:
    """Whether a record of schema 2 is, to the byte, the one that was written."""
    return record.get("seal") == _seal(record) and content == _bytes(record)


def _seal(record: Mapping[str, Any]) -> str:
    """The sha256 of the record without its seal."""
    content = _bytes({key: value for key, value in record.items() if key != "seal"})
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _bytes(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=True) + "\n").encode()


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
    if found.get("schema") not in READABLE:
        raise OutputError(
            f"{path} has the schema {found.get('schema')!r}; known are {' and '.join(READABLE)}", remedy
        )
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
    """What a configuration file holds, such that its bytes can be had back."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
