# SPDX-License-Identifier: BSD-3-Clause
"""Light curves: the DIA sources of many runs joined into objects, and each object measured in every run.

    python -m diffrun.engine.lightcurves LIST OBJECTS CURVES --radius 0.5 --processes 4 --places PLACES

LIST has one JSON object a line, one for each sensor of each pair: ``folder`` of the run, ``files`` in it, and
what is known of the pair; the lines of a pair follow each other. A pair that failed has no ``files``, and any
repository with its science images as ``folder``. OBJECTS and CURVES are written as CSV, and beside it as
Parquet, the second pair by pair. What cannot be read is named on standard error and left out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import epoch, places
from diffrun.engine.associate import Objects, associate
from diffrun.errors import DiffrunError
from diffrun.files.afw.catalog import read_catalog
from diffrun.files.tables import Block, Column, csv_text, written

Floats = NDArray[np.float64]
Run = Mapping[str, Any]
OBJECT_COLUMNS = (
    Column("object", "i8"), Column("name"), Column("ra", "f8", ".8f"), Column("dec", "f8", ".8f"),
    Column("sources", "i8"), Column("dipoles", "i8"), Column("snr", "f8", ".2f"),
)  # fmt: skip
_PR_SET_PDEATHSIG = 1
#: Pairs that are handed out before the first of them is written.
_WAVE = 512


@dataclass(frozen=True)
class Detections:
    """DIA sources: places in degrees, signed S/N, and which are dipoles, (N,) each."""

    ra: Floats
    dec: Floats
    snr: Floats
    dipole: NDArray[np.bool_]


def detections(runs: Iterable[Run]) -> Detections:
    """All sources with a place; runs that cannot be read are named on standard error."""
    found = [Detections(np.empty(0), np.empty(0), np.empty(0), np.empty(0, bool))]
    for run in runs:
        if not run.get("files"):
            continue
        try:
            found.append(_detections(run))
        except (DiffrunError, OSError) as error:
            print(f"the sources of {run['pair']} are left out: {error}", file=sys.stderr)
    return Detections(
        *(np.concatenate([getattr(d, each.name) for d in found]) for each in fields(Detections))
    )


def _detections(run: Run) -> Detections:
    catalog = read_catalog(Path(run["folder"], run["files"]["diaSrc"]))
    ra, dec = (np.degrees(np.asarray(catalog[name], float)) for name in ("coord_ra", "coord_dec"))
    flux, error = (np.asarray(values, float) for values in catalog.flux("base_PsfFlux"))
    try:
        dipole = np.asarray(catalog["ip_diffim_ClassificationDipole_value"], float) == 1
    except KeyError:
        dipole = np.zeros(len(ra), bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(error > 0, flux / error, 0.0)
    there = np.isfinite(ra) & np.isfinite(dec)
    return Detections(ra[there], dec[there], np.nan_to_num(snr[there]), dipole[there])


def object_table(objects: Objects, found: Detections) -> Block:
    """`OBJECT_COLUMNS`; ``snr`` is the largest magnitude among the object's sources, 0 without one."""
    count = len(objects.ra)
    snr = np.zeros(count)
    np.maximum.at(snr, objects.of, np.abs(found.snr))
    return {
        "object": np.arange(1, count + 1),
        "name": objects.names,
        "ra": objects.ra,
        "dec": objects.dec,
        "sources": np.bincount(objects.of, minlength=count),
        "dipoles": np.bincount(objects.of, found.dipole, minlength=count).astype(int),
        "snr": snr,
    }


_SKY: list[epoch.Sky] = []


def _begin(ra: Floats, dec: Floats) -> None:
    """What a process needs once: the objects. It dies with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _SKY[:] = [epoch.Sky(ra, dec)]


def _of_pair(pair: Sequence[Run]) -> tuple[Block, str, list[str]]:
    """The rows of one pair, the same as CSV, and what could not be read."""
    block, notes = epoch.rows(pair, _SKY[0])
    return block, csv_text(epoch.COLUMNS, block), notes


def _of_pairs(
    pairs: Sequence[Sequence[Run]], objects: Objects, processes: int
) -> Iterator[tuple[Block, str, list[str]]]:
    """The rows of each pair, in order."""
    place = objects.ra, objects.dec
    if processes == 1 or len(pairs) < 2:
        _SKY[:] = [epoch.Sky(*place)]
        yield from map(_of_pair, pairs)
        return
    with ProcessPoolExecutor(min(processes, len(pairs)), get_context("spawn"), _begin, place) as pool:
        for first in range(0, len(pairs), _WAVE):
            yield from pool.map(_of_pair, pairs[first : first + _WAVE])


def make(options: argparse.Namespace) -> None:
    """Write both tables.

    Raises
    ------
    UsageError
        If the file of places is none.
    DiskFullError, OutputError
        If a table cannot be written.
    """
    known = places.read(options.places) if options.places else places.NONE
    with options.list.open(encoding="utf-8") as file:
        runs = [json.loads(line) for line in file]
    found = detections(runs)
    objects = associate(found.ra, found.dec, found.snr, options.radius / 3600, known)
    with written(options.objects, OBJECT_COLUMNS) as table:
        table.add(object_table(objects, found))
    pairs = [tuple(group) for _, group in groupby(runs, key=lambda run: run["pair"])]
    with written(options.curves, epoch.COLUMNS) as table:
        for block, text, notes in _of_pairs(pairs, objects, options.processes):
            table.add(block, text)
            for note in notes:
                print(note, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """The program: both tables, and a line on standard error for each run that was left out."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.lightcurves", description=__doc__)
    parser.add_argument("list", type=Path, metavar="LIST")
    parser.add_argument("objects", type=Path, metavar="OBJECTS")
    parser.add_argument("curves", type=Path, metavar="CURVES")
    parser.add_argument("--radius", type=float, required=True, metavar="ARCSEC")
    parser.add_argument("--places", type=Path, metavar="PLACES")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for the processes that follow
    try:
        make(options)
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
