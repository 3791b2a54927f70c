# SPDX-License-Identifier: BSD-3-Clause
"""What a run takes, time, memory and disk, against what this machine has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffrun.display import counted, duration
from diffrun.plan import Plan
from diffrun.verdict import NOTE, OK, STOP, Line

_MIB, _GIB = 2**20, 2**30
#: Room that is left on the disk, over that needed: less is worth a word, far less cannot do.
_TIGHT, _TOO_SMALL = 1.5, 0.5
#: Processors that one sensor can keep busy.
_PARALLEL = 2
#: Limits of the memory of this process' control group, version 2 and version 1.
_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def lines(cost: Any, plan: Plan) -> list[Line]:
    """Expected time and memory, and free disk; none where the survey told no cost.

    Parameters
    ----------
    cost : mapping
        Of one sensor: ``seconds`` of processor time, ``memory_mib``, ``disk_mib``.
    plan : `Plan`
    """
    keys = ("seconds", "memory_mib", "disk_mib")
    if not isinstance(cost, Mapping) or not all(isinstance(cost.get(key), int | float) for key in keys):
        return []
    seconds, memory, disk = (float(cost[key]) for key in keys)
    sensors = len(plan.science)
    at_once = min(plan.jobs, sensors)
    limit = dict(plan.limits).get("max_memory")
    return [
        _time(seconds * sensors, sensors, plan),
        _memory(memory * at_once * _MIB, at_once, float(limit) * _GIB if limit else None),
        _disk(disk * sensors * _MIB, plan.output),
    ]


def _time(seconds: float, sensors: int, plan: Plan) -> Line:
    whose = "" if sensors == 1 else f" for {sensors} sensors"
    processors = min(_PARALLEL * plan.jobs, os.cpu_count() or 1)
    least = f", at least {duration(seconds / processors)} on the clock" if processors > 1 else ""
    seen = f"about {duration(seconds)} of processor time{whose}{least}"
    return Line(
        "time", OK, seen if plan.program == "engine" else f"{seen} in the engine; the stack takes more"
    )


def _memory(needed: float, at_once: int, limit: float | None) -> Line:
    seen = f"about {needed / _GIB:.2f} GiB at the peak"
    seen += f" of {counted(at_once, 'sensor')} at a time" if at_once > 1 else ""
    has = limit if limit is not None else total_memory()
    free = free_memory()
    remedy = "fewer --jobs, or a machine with more" if at_once > 1 else "use a machine with more"
    if has is not None and needed > has:
        whose = "--max-memory allows" if limit is not None else "this machine has"
        accept = f"--max-memory {needed / _GIB + 0.01:.2f}"
        return Line(
            "memory", STOP, f"{seen}, and {whose} {has / _GIB:.2f}", f"{remedy}, or accept it with {accept}"
        )
    if free is None:
        return Line("memory", OK, seen)
    seen += f", {free / _GIB:.1f} GiB free"
    return Line("memory", NOTE, seen, remedy) if needed > free else Line("memory", OK, seen)


def _disk(needed: float, output: Path) -> Line:
    place, free = room(output)
    seen = f"about {_size(needed)} below {place}, {_size(free)} free"
    remedy = "make room, or give another --output"
    if free < _TOO_SMALL * needed:
        return Line("disk", STOP, seen, remedy)
    return Line("disk", NOTE, seen, remedy) if free < _TIGHT * needed else Line("disk", OK, seen)


def _size(amount: float) -> str:
    return f"{amount / _GIB:.1f} GiB" if amount >= _GIB else f"{amount / _MIB:.0f} MiB"


def room(folder: Path) -> tuple[Path, int]:
    """The nearest folder that is there already, of one that may not be, and the bytes that are free there."""
    place = next(each for each in (folder, *folder.parents) if each.is_dir())
    return place, shutil.disk_usage(place).free


def total_memory() -> float | None:
    """Bytes that this process may ever have: the machine's, or the least limit of its control group."""
    try:
        found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    except (ValueError, OSError):
        found = []
    for path in _GROUP_LIMITS:
        try:
            found.append(float(path.read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return min(found, default=None)


def free_memory() -> float | None:
    """Bytes that the kernel could give now without swapping; `None` where it does not say."""
    try:
        told = Path("/proc/meminfo").read_text()
        return next(
            float(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("MemAvail")
        )
    except (OSError, StopIteration, ValueError, IndexError):
        return None
