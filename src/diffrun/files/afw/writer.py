# SPDX-License-Identifier: BSD-3-Clause
"""Write an exposure or a kernel so that afw 12.1 and today's both read it (afw.md 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.files import fits as door
from diffrun.files.afw import cards, kernelarchive, narrow, persistence, psfarchive
from diffrun.files.afw.archive import ArchiveWriter
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.atomic import write_bytes


def write_exposure(path: Path, exposure: Exposure) -> None:
    """Write an exposure under its name, whole or not at all.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    diffrun.errors.DataError
        If its mask has more than the 16 planes that afw 12.1 can hold.
    """
    write_bytes(path, exposure_to_bytes(exposure))


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
    planes = [
        _plane(exposure, exposure.image, "IMAGE"),
        _plane(exposure, exposure.mask.astype(np.uint16), "MASK"),
        _plane(exposure, exposure.variance, "VARIANCE"),
    ]
    return door.to_bytes([_primary(exposure, ids), *planes, *(archive.hdus() if ids else [])])


def write_kernel(path: Path, kernel: LinearCombinationKernel) -> None:
    """Write a kernel as the object 1 of a stand-alone archive.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    archive = ArchiveWriter()
    kernelarchive.put_kernel(archive, kernel)
    write_bytes(path, door.to_bytes([fits.PrimaryHDU(), *archive.hdus()]))


def _primary(exposure: Exposure, ids: dict[str, int]) -> fits.PrimaryHDU:
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
    hdu = fits.PrimaryHDU()
    for name, value in values.items():
        _set(hdu.header, name, value)
    return hdu


def _plane(exposure: Exposure, pixels: NDArray[Any], kind: str) -> fits.ImageHDU:
    """One of the three planes with its cards."""
    hdu = fits.ImageHDU(np.ascontiguousarray(pixels))
    x0, y0 = exposure.xy0
    if exposure.wcs is not None:
        for name, value in exposure.wcs.header(exposure.xy0).items():
            hdu.header[name] = value
    hdu.header.update({"LTV1": float(-x0), "LTV2": float(-y0), "INHERIT": True})
    hdu.header.update({"EXTTYPE": kind, "EXTNAME": kind})
    if kind == "MASK":
        for name, bit in sorted(exposure.planes.items()):
            _set(hdu.header, f"MP_{name}", int(bit))
    # Integers here: afw 12.1 cannot read an origin given as a float.
    for axis, start in ((1, x0), (2, y0)):
        hdu.header[f"CTYPE{axis}A"] = "LINEAR"
        hdu.header[f"CRPIX{axis}A"] = 1
        hdu.header[f"CRVAL{axis}A"] = int(start)
        hdu.header[f"CUNIT{axis}A"] = "PIXEL"
    return hdu


def _set(header: fits.Header, name: str, value: Any) -> None:
    """Set a card, a HIERARCH one where the name asks for it."""
    plain = len(name) <= 8 and name == name.upper() and " " not in name
    header[name if plain else f"HIERARCH {name}"] = value


def _storable(value: Any) -> bool:
    """Whether a card can hold it: FITS has no NaN, and plain text only."""
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    return isinstance(value, (bool, int)) or (isinstance(value, float) and bool(np.isfinite(value)))
