# SPDX-License-Identifier: BSD-3-Clause
"""The subset as a Gen2 repository of obs_lsstSim 12.1."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from astropy.time import Time
from catalogue import schema
from products import Products
from visits import EXPOSURE_TIME, Visit, data_id

from diffrun.files.afw.background import write_background
from diffrun.files.afw.catalog import write_catalog
from diffrun.files.afw.writer import write_exposure
from diffrun.repository.paths import relative

MAPPER = "lsst.obs.lsstSim.lsstSimMapper.LsstSimMapper\n"
RAW = (
    "create table raw (id integer primary key autoincrement, visit int, channel text, snap int, sensor text, "
    "ccd text, raft text, filter text, taiObs text, expTime double, unique(visit,sensor,raft,channel,snap))"
)
RAW_VISIT = "create table raw_visit (visit int, filter text, unique(visit))"


def start(root: Path, visits: Iterable[Visit]) -> None:
    """The folder with its mapper, its schema and a registry of these visits (as ingestSimImages makes it)."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "_mapper").write_text(MAPPER, encoding="ascii")
    write_catalog(_made(root / relative("src_schema")), schema())
    registry = root / "registry.sqlite3"
    registry.unlink(missing_ok=True)
    with sqlite3.connect(registry) as connection:
        connection.execute(RAW)
        connection.execute(RAW_VISIT)
        for visit in sorted(visits, key=lambda v: v.number):
            began = Time(visit.mjd, format="mjd", scale="tai").utc.to_value("isot", subfmt="date_hms")
            row = (visit.number, "0,0", 0, "1,1", "1,1", "2,2", visit.band, f"{began}000000", EXPOSURE_TIME)
            names = "visit, channel, snap, sensor, ccd, raft, filter, taiObs, expTime"
            connection.execute(f"insert into raw ({names}) values (?,?,?,?,?,?,?,?,?)", row)
        connection.execute("insert or ignore into raw_visit select distinct visit, filter from raw")
    connection.close()


def write(root: Path, visit: Visit, products: Products) -> None:
    """The visit's calexp, background and src."""
    here = data_id(visit)
    write_exposure(_made(root / relative("calexp", here)), products.exposure)
    write_background(_made(root / relative("calexpBackground", here)), products.background)
    write_catalog(_made(root / relative("src", here)), products.sources)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
