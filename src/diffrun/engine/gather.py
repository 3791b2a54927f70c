# SPDX-License-Identifier: BSD-3-Clause
"""One catalogue of the DIA sources of many runs, each with its visit, band, MJD and pair.

    python -m diffrun.engine.gather LIST CATALOGUE

LIST has one JSON object a line: ``folder`` of a run, ``diaSrc`` in it, and what is known of the pair. The
catalogue is CSV, written run by run, so that memory does not grow with it. What cannot be read is named on
standard error and left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DiffrunError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.reader import read_summary
from diffrun.files.atomic import write_stream

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
_PAIR = ("pair", "science", "template", "band", "raft", "sensor", "mjd")
COLUMNS = (*_PAIR, *_FIELDS, "flux_njy", "flux_njy_error")
_NJY_AT_ZERO = 3630780547701.0  # of magnitude 0 (AB)


def rows(run: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The sources of one run, as rows of `COLUMNS`.

    Parameters
    ----------
    run : mapping
        One object of the list.

    Raises
    ------
    DataError, RepositoryError
        If a file cannot be read.
    """
    path = Path(run["folder"], run["diaSrc"])
    catalog = read_catalog(path)
    image = read_summary(path.with_name(path.name.replace("diaSrc-", "diffexp-", 1)))
    known = dict(run) | ({} if run.get("mjd") is not None else {"mjd": image.mjd})
    columns = {name: _column(catalog, names) for name, names in _FIELDS.items()}
    for name in ("ra", "dec"):
        columns[name] = np.degrees(columns[name])
    scale = _NJY_AT_ZERO / image.flux_mag0 if image.flux_mag0 else np.nan
    columns["flux_njy"], columns["flux_njy_error"] = (columns[n] * scale for n in ("flux", "flux_error"))
    values = (columns[name].tolist() for name in COLUMNS[len(_PAIR) :])
    first = ["" if known.get(name) is None else known[name] for name in _PAIR]
    for row in zip(*values, strict=True):
        yield [*first, *(int(value) if isinstance(value, bool) else value for value in row)]


def _column(catalog: Catalog, names: Iterable[str]) -> NDArray[Any]:
    """The first field that is there; NaN if none is."""
    for name in names:
        try:
            return catalog[name]
        except KeyError:
            continue
    return np.full(len(catalog), np.nan)


def main(argv: Sequence[str] | None = None) -> int:
    """The program: the catalogue, and a line on standard error for each run that was left out."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.gather", description=__doc__)
    parser.add_argument("list", type=Path, metavar="LIST")
    parser.add_argument("catalogue", type=Path, metavar="CATALOGUE")
    options = parser.parse_args(argv)
    try:
        with write_stream(options.catalogue) as file, options.list.open(encoding="utf-8") as listed:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for line in listed:
                run = json.loads(line)
                try:
                    table.writerows(rows(run))
                except (DiffrunError, OSError) as error:
                    print(f"{run['pair']} is not in the catalogue: {error}", file=sys.stderr)
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
