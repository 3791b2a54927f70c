# SPDX-License-Identifier: BSD-3-Clause
"""Enter visits into a small Gen2 repository of obs_lsstSim that is made here."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from diffrun.errors import OutputError
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

MAPPER = b"lsst.obs.lsstSim.lsstSimMapper.LsstSimMapper\n"
_REGISTRY = "registry.sqlite3"
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


def enter(root: Path, data_id: DataId, exposure_time: float = float("nan")) -> None:
    """Enter one sensor of a visit into the registry, which is made if it is not there.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    path = root / _REGISTRY
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


def refuse_other_filter(root: Path, data_id: DataId) -> None:
    """`OutputError` if the repository has this visit in another filter already.

    Raises
    ------
    diffrun.errors.RepositoryError
        If its registry cannot be read.
    """
    if not (root / _REGISTRY).is_file():
        return
    name = Repository.open(root).visits().get(data_id.visit, data_id.filter)
    if name != data_id.filter:
        raise OutputError(
            f"{root} has visit {data_id.visit} in filter {name}, not {data_id.filter}", "give another visit"
        )
