# SPDX-License-Identifier: BSD-3-Clause
"""A small Gen2 repository that holds what was made."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

from diffrun.engine.makecalexp.make import Calexp
from diffrun.engine.makecalexp.sources import schema
from diffrun.errors import OutputError
from diffrun.files.afw.background import write_background
from diffrun.files.afw.catalog import write_catalog
from diffrun.files.afw.writer import write_exposure
from diffrun.files.atomic import write_bytes
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

MAPPER = b"lsst.obs.lsstSim.lsstSimMapper.LsstSimMapper\n"
_TABLES = (
    "create table if not exists raw (id integer primary key autoincrement, visit int, channel text, "
    "snap int, sensor text, ccd text, raft text, filter text, taiObs text, expTime double, "
    "unique(visit,sensor,raft,channel,snap))",
    "create table if not exists raw_visit (visit int, filter text, unique(visit))",
)
_ROW = (
    "insert or replace into raw (visit, channel, snap, sensor, ccd, raft, filter, taiObs, expTime) "
    "values (?, '0,0', 0, ?, ?, ?, ?, '', ?)"
)


def refuse_other_filter(root: Path, data_id: DataId) -> None:
    """`OutputError` if the repository has this visit in another filter already."""
    path = root / "registry.sqlite3"
    if not path.is_file():
        return
    with contextlib.closing(sqlite3.connect(path)) as registry:
        known = registry.execute("select filter from raw where visit = ?", (data_id.visit,)).fetchall()
    for (name,) in known:
        if name != data_id.filter:
            raise OutputError(
                f"{root} has visit {data_id.visit} in filter {name}, not {data_id.filter}",
                "give another visit",
            )


def write(root: Path, data_id: DataId, made: Calexp) -> list[Path]:
    """Write the calexp, its background and ``src``, and enter the visit into the repository's registry.

    The repository is made if it is not there; a visit that it has is replaced.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    names = {name: root / relative(name, data_id) for name in ("calexp", "calexpBackground", "src")}
    facts = names["calexp"].with_suffix(".json")
    write_bytes(root / "_mapper", MAPPER)
    write_catalog(root / relative("src_schema"), schema())
    write_background(names["calexpBackground"], made.background)
    write_catalog(names["src"], made.sources)
    write_exposure(names["calexp"], made.exposure)
    write_bytes(facts, (json.dumps(made.facts, indent=2) + "\n").encode())
    _register(root / "registry.sqlite3", data_id, made.exposure.exposure_time)
    return [*names.values(), facts]


def _register(path: Path, data_id: DataId, exposure_time: float) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as registry, registry:
            for table in _TABLES:
                registry.execute(table)
            seconds = exposure_time if exposure_time == exposure_time else None  # NaN is no value in SQL
            words = (data_id.visit, data_id.sensor, data_id.sensor, data_id.raft, data_id.filter, seconds)
            registry.execute(_ROW, words)
            registry.execute(
                "insert or replace into raw_visit values (?, ?)", (data_id.visit, data_id.filter)
            )
    except sqlite3.Error as error:
        raise OutputError(f"cannot write {path}: {error}", "check the folder and its free space") from None
