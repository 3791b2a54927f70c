# SPDX-License-Identifier: BSD-3-Clause
"""Light curves: the DIA sources of many runs joined into objects, and each object measured in every run.

    python -m diffrun.engine.lightcurves LIST OBJECTS CURVES --radius 0.5 --processes 4 --places PLACES

LIST has one JSON object a line, one for each sensor of each pair: ``folder`` of the run, ``files`` in it, and
what is known of the pair; the lines of a pair follow each other. A pair that failed has no ``files``, and any
repository with its science images as ``folder``. OBJECTS and CURVES are written as CSV, and beside it as
Parquet, the second pair by pair. What cannot be read is named on standard error and left out.

Each difference is first looked at again, for sources that its catalogue has as one with a brighter neighbour.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import epoch, gather, hidden, places
from diffrun.engine.associate import Objects, associate
from diffrun.engine.leave import with_parent
from diffrun.errors import DiffrunError, OutputError
from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure
from diffrun.files.tables import Block, Column, csv_text, written
from diffrun.threads import hold_algebra

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Run = Mapping[str, Any]
OBJECT_COLUMNS = (
    Column("object", "i8"), Column("name"), Column("ra", "f8", ".8f"), Column("dec", "f8", ".8f"),
    Column("sources", "i8"), Column("dipoles", "i8"), Column("hidden", "i8"), Column("snr", "f8", ".2f"),
)  # fmt: skip
#: What is handed out before the first of it is taken back.
_WAVE = 512
_NONE = np.empty(0)


@dataclass(frozen=True)
class Detections:
    """DIA sources: places in degrees, signed S/N, which are dipoles, which in no catalogue, (N,) each."""

    ra: Floats
    dec: Floats
    snr: Floats
    dipole: Bools
    hidden: Bools


_NOTHING = Detections(_NONE, _NONE, _NONE, *np.empty((2, 0), bool))


def detections(runs: Sequence[Run], processes: int = 1) -> Detections:
    """All sources with a place; runs that cannot be read are named on standard error."""
    done = [run for run in runs if run.get("files")]
    found = [_NOTHING]
    for each, note in _mapped(_detections, done, processes):
        found.append(each)
        if note:
            print(note, file=sys.stderr)
    return Detections(
        *(np.concatenate([getattr(d, each.name) for d in found]) for each in fields(Detections))
    )


def _detections(run: Run) -> tuple[Detections, str]:
    """The sources of one run, and why they cannot be read."""
    try:
        known = _catalogued(run)
    except (DiffrunError, OSError, KeyError) as error:
        return _NOTHING, f"the sources of {run['pair']} are left out: {error}"
    try:
        return _with_hidden(read_exposure(epoch.path(run, "differenceExp")), known), ""
    except (DiffrunError, OSError):
        return known, ""  # its measurement will say so


def _catalogued(run: Run) -> Detections:
    catalog = read_catalog(epoch.path(run, "diaSrc"))
    ra, dec = (np.degrees(np.asarray(catalog[name], float)) for name in ("coord_ra", "coord_dec"))
    flux, sigma = (np.asarray(values, float) for values in catalog.flux("base_PsfFlux"))
    dipole = gather.column(catalog, "dipole") == 1
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(sigma > 0, flux / sigma, 0.0)
    there = np.isfinite(ra) & np.isfinite(dec)
    hides = np.zeros(there.sum(), bool)
    return Detections(ra[there], dec[there], np.nan_to_num(snr[there]), dipole[there], hides)


def _with_hidden(difference: Exposure, known: Detections) -> Detections:
    """Also those behind others; each of a blend has the place and the S/N that it has beside the others."""
    if difference.psf is None or difference.wcs is None or not len(known.ra):
        return known
    x, y = difference.wcs.sky_to_pixel(known.ra, known.dec)
    seen = hidden.look(difference, np.asarray(x, float), np.asarray(y, float))
    new = np.arange(len(seen.x)) >= len(known.ra)
    own = new | (seen.blended & (seen.snr != 0))
    ra, dec, snr, dipole = (np.pad(getattr(known, each.name), (0, new.sum())) for each in fields(known)[:4])
    own_ra, own_dec = difference.wcs.pixel_to_sky(seen.x, seen.y)
    ra, dec, snr = np.where(own, (own_ra, own_dec, seen.snr), (ra, dec, snr))
    return Detections(ra, dec, snr, dipole, new)


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
        "hidden": np.bincount(objects.of, found.hidden, minlength=count).astype(int),
        "snr": snr,
    }


_SKY: list[epoch.Sky] = []


def _begin(ra: Floats, dec: Floats) -> None:
    """What a process needs once: the objects. It dies with its parent."""
    with_parent()
    _SKY[:] = [epoch.Sky(ra, dec)]


def _of_pair(pair: Sequence[Run]) -> tuple[Block, str, list[str]]:
    """The rows of one pair, the same as CSV, and what could not be read."""
    block, notes = epoch.rows(pair, _SKY[0])
    return block, csv_text(epoch.COLUMNS, block), notes


def _mapped(
    work: Callable[[Any], Any], items: Sequence[Any], processes: int, ra: Floats = _NONE, dec: Floats = _NONE
) -> Iterator[Any]:
    """What the work makes of each, in order; with the objects at these places known to it."""
    if processes == 1 or len(items) < 2:
        _SKY[:] = [epoch.Sky(ra, dec)]
        yield from map(work, items)
        return
    with ProcessPoolExecutor(min(processes, len(items)), get_context("spawn"), _begin, (ra, dec)) as pool:
        for first in range(0, len(items), _WAVE):
            yield from pool.map(work, items[first : first + _WAVE])


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
    found = detections(runs, options.processes)
    objects = associate(found.ra, found.dec, found.snr, options.radius / 3600, known)
    with written(options.objects, OBJECT_COLUMNS) as table:
        table.add(object_table(objects, found))
    pairs = [tuple(group) for _, group in groupby(runs, key=lambda run: run["pair"])]
    with written(options.curves, epoch.COLUMNS) as table:
        for block, text, notes in _mapped(_of_pair, pairs, options.processes, objects.ra, objects.dec):
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
    hold_algebra()  # in the processes that follow
    try:
        make(options)
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenProcessPool:
        print("a worker was killed; give fewer --workers if memory was short", file=sys.stderr)
        return OutputError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
