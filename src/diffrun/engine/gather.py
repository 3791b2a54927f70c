# SPDX-License-Identifier: BSD-3-Clause
"""One catalogue of the DIA sources of many runs, each with its visit, band, MJD and pair.

    python -m diffrun.engine.gather LIST CATALOGUE

LIST has one JSON object a line: ``folder`` of a run, ``files`` in it, and what is known of the pair. The
catalogue is CSV, and Parquet beside it, written run by run, so that memory does not grow with it. What cannot
be read is named on standard error and left out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DiffrunError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.photocalib import FLUX_MAG0_NJY
from diffrun.files.afw.reader import read_summary
from diffrun.files.tables import Block, Column, written

#: Column of the catalogue -> field of the sources, by the names of two generations of the stack.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id",),
    "ra": ("coord_ra",),
    "dec": ("coord_dec",),
    "x": ("slot_Centroid_x", "base_NaiveCentroid_x"),
    "y": ("slot_Centroid_y", "base_NaiveCentroid_y"),
    "flux": ("base_PsfFlux_flux", "base_PsfFlux_instFlux"),
    "flux_error": ("base_PsfFlux_fluxSigma", "base_PsfFlux_instFluxErr"),
    "flux_flag": ("base_PsfFlux_flag",),
    "dipole": ("ip_diffim_ClassificationDipole_value", "classification_dipole"),
    "edge": ("base_PixelFlags_flag_edge",),
    "saturated": ("base_PixelFlags_flag_saturatedCenter",),
    "bad": ("base_PixelFlags_flag_bad",),
}
_FLAGS = ("flux_flag", "dipole", "edge", "saturated", "bad")
_PAIR = (
    Column("pair"), Column("visit", "i8"), Column("template", "i8"), Column("band"), Column("raft"),
    Column("sensor"), Column("mjd", "f8"),
)  # fmt: skip
COLUMNS = (
    *_PAIR,
    Column("id", "i8"),
    *(Column(name, "f8") for name in ("ra", "dec", "x", "y", "flux", "flux_error")),
    *(Column(name, "b1", optional=True) for name in _FLAGS),
    *(Column(name, "f8") for name in ("flux_njy", "flux_njy_error")),
)


def sources(run: Mapping[str, Any]) -> Block:
    """The sources of one run: `COLUMNS`.

    Parameters
    ----------
    run : mapping
        One object of the list.

    Raises
    ------
    DataError, RepositoryError
        If a file cannot be read.
    """
    path = Path(run["folder"], run["files"]["diaSrc"])
    catalog = read_catalog(path)
    image = read_summary(path.with_name(path.name.replace("diaSrc-", "diffexp-", 1)))
    known = dict(run) | ({} if run.get("mjd") is not None else {"mjd": image.mjd})
    columns: dict[str, Any] = {name: column(catalog, name) for name in _FIELDS}
    for name in ("ra", "dec"):
        columns[name] = np.degrees(columns[name])
    for name in _FLAGS:
        columns[name] = [None if math.isnan(value) else value == 1 for value in columns[name]]
    scale = FLUX_MAG0_NJY / image.flux_mag0 if image.flux_mag0 else np.nan
    columns["flux_njy"], columns["flux_njy_error"] = (columns[n] * scale for n in ("flux", "flux_error"))
    return columns | {column.name: [known.get(column.name)] * len(catalog) for column in _PAIR}


def column(catalog: Catalog, name: str) -> NDArray[Any]:
    """A column by the first of its fields that is there; NaN if none is."""
    for field in _FIELDS[name]:
        if field in catalog:
            return catalog[field]
    return np.full(len(catalog), np.nan)


def main(argv: Sequence[str] | None = None) -> int:
    """The program: the catalogue, and a line on standard error for each run that was left out."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.gather", description=__doc__)
    parser.add_argument("list", type=Path, metavar="LIST")
    parser.add_argument("catalogue", type=Path, metavar="CATALOGUE")
    options = parser.parse_args(argv)
    try:
        with written(options.catalogue, COLUMNS) as table, options.list.open(encoding="utf-8") as listed:
            for line in listed:
                run = json.loads(line)
                try:
                    found = sources(run)
                except (DiffrunError, OSError) as error:
                    print(f"{run['pair']} is not in the catalogue: {error}", file=sys.stderr)
                    continue
                table.add(found)
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
