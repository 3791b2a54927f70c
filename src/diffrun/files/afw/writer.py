# SPDX-License-Identifier: BSD-3-Clause
"""Write an exposure or a kernel so that afw 12.1 and today's both read it (afw.md 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffrun.files.afw import cards, kernelarchive, narrow, persistence, psfarchive
from diffrun.files.afw.archive import ArchiveWriter
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.atomic import write_bytes, write_pieces
from diffrun.files.fitswrite import Image, Layout, to_bytes


def write_exposure(path: Path, exposure: Exposure, missing: Sequence[str] = ()) -> None:
    """Write an exposure under its name, whole or not at all.

    Parameters
    ----------
    path : `pathlib.Path`
    exposure : `Exposure`
        As for `exposure_to_bytes`.
    missing : sequence of `str`, optional
        Mask planes of whose pixels image and variance are NaN in the file.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    diffrun.errors.DataError
        If its mask has more than the 16 planes that afw 12.1 can hold.
    """
    layout = _layout(exposure, missing)
    write_pieces(path, layout.size, layout)


def exposure_to_bytes(exposure: Exposure) -> bytearray:
    """The file of an exposure; the same exposure always gives the same bytes.

    Parameters
    ----------
    exposure : `Exposure`
        Its WCS may be `None`; one that is no TAN-SIP is written as the nearest. Its PSF is one of ``psf.py``
        or `None`.

    Returns
    -------
    content : `bytearray`
        Image float32, mask uint16, variance float32, and an archive with the PSF and the WCS.
    """
    return _layout(exposure, ()).to_bytes()


def write_kernel(path: Path, kernel: LinearCombinationKernel) -> None:
    """Write a kernel as the object 1 of a stand-alone archive.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    archive = ArchiveWriter()
    kernelarchive.put_kernel(archive, kernel)
    write_bytes(path, to_bytes([Image([]), *archive.hdus()]))


def _layout(exposure: Exposure, missing: Sequence[str]) -> Layout:
    """The HDUs of an exposure's file."""
    exposure = narrow.sixteen_planes(exposure)
    ny, nx = exposure.shape
    x0, y0 = exposure.xy0
    archive = ArchiveWriter()
    ids = {}
    if exposure.psf is not None:
        ids["PSF_ID"] = psfarchive.put_psf(archive, exposure.psf)
    if exposure.wcs is not None:
        wcs = exposure.wcs.with_reverse((x0, y0, x0 + nx - 1, y0 + ny - 1))
        exposure = exposure.replace(wcs=wcs)
        ids["WCS_ID"] = persistence.put_tan_wcs(archive, wcs)
    blank = (exposure.mask, exposure.bits(*missing))
    planes = [
        Image(_cards(exposure, "IMAGE"), exposure.image, blank=blank),
        Image(_cards(exposure, "MASK"), exposure.mask, "uint16"),
        Image(_cards(exposure, "VARIANCE"), exposure.variance, blank=blank),
    ]
    return Layout([_primary(exposure, ids), *planes, *(archive.hdus() if ids else [])])


def _primary(exposure: Exposure, ids: dict[str, int]) -> Image:
    """The first HDU: all that is said of the exposure as a whole."""
    calibrated = np.isfinite(exposure.flux_mag0)
    values = {
        **{name: value for name, value in exposure.metadata.items() if _storable(value)},
        **({"AR_HDU": 5, **ids} if ids else {}),
        "FILTER": exposure.filter,
        **({"EXPTIME": exposure.exposure_time} if np.isfinite(exposure.exposure_time) else {}),
        **cards.date_cards(exposure.mjd),
        "FLUXMAG0": float(exposure.flux_mag0) if calibrated else 0.0,
        "FLUXMAG0ERR": float(exposure.flux_mag0_err) if calibrated else 0.0,
    }
    return Image(list(values.items()))


def _cards(exposure: Exposure, kind: str) -> list[tuple[str, Any]]:
    """The cards of one of the three planes."""
    x0, y0 = exposure.xy0
    found: list[tuple[str, Any]] = []
    if exposure.wcs is not None:
        found += exposure.wcs.header(exposure.xy0).items()
    found += [("LTV1", float(-x0)), ("LTV2", float(-y0)), ("INHERIT", True)]
    found += [("EXTTYPE", kind), ("EXTNAME", kind)]
    if kind == "MASK":
        found += [(f"MP_{name}", int(bit)) for name, bit in sorted(exposure.planes.items())]
    # Integers here: afw 12.1 cannot read an origin given as a float.
    for axis, start in ((1, x0), (2, y0)):
        found += [(f"CTYPE{axis}A", "LINEAR"), (f"CRPIX{axis}A", 1), (f"CRVAL{axis}A", int(start))]
        found += [(f"CUNIT{axis}A", "PIXEL")]
    return found


def _storable(value: Any) -> bool:
    """Whether a card can hold it: FITS has no NaN, and plain text only."""
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    return isinstance(value, (bool, int)) or (isinstance(value, float) and bool(np.isfinite(value)))
