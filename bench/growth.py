# SPDX-License-Identifier: BSD-3-Clause
"""How time and memory grow: with the pixels of a frame, and with the data ids at a time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import engine
import primitives
import stages
from conditions import BAND, CONFIGURATIONS, SCIENCE, SENSOR, TEMPLATE
from simulate import simulate

from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

SIDES = (512, 1024, 2048, 4096, 8192)  # pixels: 0.25 to 64 megapixels
SEED = 21
SECOND = SCIENCE + 1  # the visit that has the same files


def warm(folder: Path) -> dict[str, float]:
    """One small run, so that no later one compiles."""
    return of_side(SIDES[0], folder)


def of_side(side: int, folder: Path) -> dict[str, float]:
    """What a square frame takes, less what the imports take; the better of two runs up to 2048 pixels."""
    repository = folder / "repository"
    simulate(CONFIGURATIONS["default"].of_size(side), SEED, repository)
    runs = [engine.subtract(repository, folder / f"out-{n}") for n in range(2 if side <= 2048 else 1)]
    bare = engine.imports(folder / "imports.log")
    return {
        "pixels": float(side * side),
        "cpu": min(r.cpu for r in runs),
        "wall": min(r.wall for r in runs),
        "memory": runs[0].memory / 2**20,
        "bare_cpu": bare.cpu,
        "bare_wall": bare.wall,
        "bare_memory": bare.memory / 2**20,
    }


def of_a_sensor(folder: Path) -> dict[str, Any]:
    """What a whole sensor takes beside its difference: the first run, the launcher, two data ids at a time.

    The runs are ``alone``, ``first`` (nothing compiled yet), ``launcher`` (``diffrun``
    around the engine), and two data ids ``one_core``, ``all_cores`` (one after the other) and ``at_once``.
    """
    repository = folder / "repository"
    simulate(CONFIGURATIONS["default"], SEED, repository)
    result: dict[str, Any] = {"alone": asdict(engine.subtract(repository, folder / "alone"))}
    result["stages"] = stages.times(repository, folder / "stages")
    result["primitives"] = primitives.measure(SENSOR, folder)
    (folder / "numba").mkdir()
    nothing_compiled = {"NUMBA_CACHE_DIR": str(folder / "numba")}
    result["first"] = asdict(engine.subtract(repository, folder / "first", **nothing_compiled))
    words = [sys.executable, "-c", "from diffrun.cli import main; main()", "--repo", repository]
    words += ["--science", str(SCIENCE), "--template", str(TEMPLATE), "--output", folder / "launched"]
    result["launcher"] = asdict(engine.run(words, folder / "launched.log"))
    double(repository)
    return result | two_ids(repository, folder)


def two_ids(repository: Path, folder: Path) -> dict[str, Any]:
    """Two data ids: one after the other on one core and on all, and both at a time; the better of two."""
    ids = f"{SCIENCE}^{SECOND}"
    cores = sorted(os.sched_getaffinity(0))
    result: dict[str, Any] = {"cores": len(cores)}
    for name, options, of_cores in (
        ("one_core", (), cores[:1]),
        ("all_cores", (), cores),
        ("at_once", ("-j", "2"), cores),
    ):
        runs = []
        for _ in range(2):
            output = folder / name
            shutil.rmtree(output, ignore_errors=True)
            os.sched_setaffinity(0, of_cores)
            try:
                runs.append(asdict(engine.subtract(repository, output, *options, visits=ids)))
            finally:
                os.sched_setaffinity(0, cores)
        result[name] = min(runs, key=lambda run: run["wall"])
    return result


def double(repository: Path) -> None:
    """Give the science visit a twin under another number, with the same files."""
    ids = [DataId(number, BAND, "2,2", "1,1") for number in (SCIENCE, SECOND)]
    for dataset in ("calexp", "calexpBackground", "src"):
        old, new = (repository / relative(dataset, data_id) for data_id in ids)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.hardlink_to(old)
    with sqlite3.connect(repository / "registry.sqlite3") as connection:
        for table in ("raw", "raw_visit"):
            names = [row[1] for row in connection.execute(f"pragma table_info({table})") if row[1] != "id"]
            chosen = ", ".join(str(SECOND) if name == "visit" else name for name in names)
            connection.execute(
                f"insert into {table} ({', '.join(names)}) select {chosen} from {table} where visit = ?",
                (SCIENCE,),
            )
    connection.close()
