# SPDX-License-Identifier: BSD-3-Clause
"""World coordinates, zero points and filters in an archive (afw.md 2.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw import skywcs
from diffrun.files.afw.archive import Archive, ArchiveWriter, Row
from diffrun.files.afw.exposure import Wcs
from diffrun.files.afw.rows import columns, point, vector
from diffrun.files.afw.wcs import TanSipWcs, checked, to_icrs

Array = NDArray[np.float64]
_UNKNOWN_EQUINOX = 1e100


def read_wcs(archive: Archive, number: int) -> Wcs:
    """A WCS of either age: ``SkyWcs``, or ``TanWcs`` and its plain form ``Wcs``.

    Raises
    ------
    diffrun.errors.DataError
        If its class is neither, or it has a mapping that is not known here.
    """
    name = archive.name(number)
    if name == "SkyWcs":
        return skywcs.from_bytes(archive.row(number)["wcs"])
    if name in ("TanWcs", "Wcs"):
        return read_tan_wcs(archive, number)
    raise DataError(
        f"the WCS is of the class {name or '(missing)'}", "give one of the class SkyWcs or TanWcs"
    )


def read_tan_wcs(archive: Archive, number: int) -> TanSipWcs:
    """An archive's ``TanWcs``: 0-based parent pixels, turned to ICRS."""
    row = archive.row(number)
    crval = point(row, "crval")
    crpix = point(row, "crpix")
    matrices: list[Array | None] = [None] * 4
    if len(archive.objects[number][1]) > 1:
        sip = archive.row(number, 1)
        matrices = [_square(sip[name]) for name in ("A", "B", "Ap", "Bp")]
    cd = np.array(row["cd"], float).reshape(2, 2).T
    equinox = float(row["equinox"])
    equinox = equinox if 0 < equinox < _UNKNOWN_EQUINOX else 2000.0
    frame = row["radesys"].decode("ascii").strip(" \0").upper() or "ICRS"
    return checked(to_icrs(TanSipWcs(crval, crpix, cd, *matrices), frame, equinox))


def read_band(archive: Archive, number: int) -> str:
    """The band of a ``FilterLabel``, or its physical filter where it has no band; '' for neither."""
    row = archive.row(number)
    first_byte = int(np.ravel(row["flags"])[0])
    band, physical = (row[name].decode("ascii").rstrip(" \0") for name in ("band", "physical"))
    return band if first_byte & 0x80 else physical if first_byte & 0x40 else ""


def put_tan_wcs(archive: ArchiveWriter, wcs: TanSipWcs) -> int:
    """Store a WCS as afw 12.1's ``TanWcs``; its id."""
    row: Row = columns("crval", "1D", wcs.crval) | columns("crpix", "1D", wcs.crpix)
    row |= {
        "cd": vector("D", wcs.cd.T.ravel()),
        "ctype1": ("72A", "RA---TAN"),
        "ctype2": ("72A", "DEC--TAN"),
        "equinox": ("1D", 2000.0),
        "radesys": ("72A", "ICRS"),
        "cunit1": ("72A", "deg"),
        "cunit2": ("72A", "deg"),
    }
    parts = [[row]]
    if wcs.a is not None and wcs.b is not None:
        named = {"A": wcs.a, "B": wcs.b, "Ap": wcs.ap, "Bp": wcs.bp}
        sip: Row = {
            name: vector("D", (np.zeros((1, 1)) if matrix is None else matrix).T.ravel())
            for name, matrix in named.items()
        }
        parts.append([sip])
    return archive.put(archive.reserve(), "TanWcs", "lsst.afw.image", parts)


def _square(values: Any) -> Array:
    """A square matrix stored by columns."""
    flat = np.array(np.ravel(values), float)
    side = round(np.sqrt(flat.size))
    return flat.reshape(side, side).T
