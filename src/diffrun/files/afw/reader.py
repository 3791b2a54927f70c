# SPDX-License-Identifier: BSD-3-Clause
"""Read an exposure as any afw from 12.1 to today's has written it (afw.md 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw import (
    cards,
    headerwcs,
    kernelarchive,
    lsstimages,
    nearest,
    persistence,
    photocalib,
    psfarchive,
)
from diffrun.files.afw.archive import Archive
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure, Psf, Wcs
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.fitsheader import Header

_MAX_EXPINFO = 2
_ANEW = "get a whole copy of this file, or make it anew"

#: Rows and columns of the pixels; `None` for all.
Part = tuple[slice, slice] | None


@dataclass(frozen=True)
class ExposureSummary:
    """All that an exposure's file says but its pixels.

    Attributes
    ----------
    shape : `tuple` [`int`, `int`]
        (ny, nx).
    xy0 : `tuple` [`int`, `int`]
        Parent pixel (x, y) of the first pixel.
    wcs : `diffrun.files.afw.exposure.Wcs` or `None`
    psf : `diffrun.files.afw.exposure.Psf` or `None`
    filter : `str`
        Band, or '_unknown_'.
    flux_mag0, flux_mag0_err : `float`
        Counts of an AB magnitude 0 source, NaN when not calibrated.
    mjd : `float`
        Middle of the exposure, TAI.
    exposure_time : `float`
        Seconds.
    metadata : `dict`
        Further cards.
    calibration : `diffrun.files.afw.photocalib.ChebyshevField` or `None`
        How the zero point varies over the image.
    """

    shape: tuple[int, int]
    xy0: tuple[int, int]
    wcs: Any
    psf: Psf | None
    filter: str
    flux_mag0: float
    flux_mag0_err: float
    mjd: float
    exposure_time: float
    metadata: dict[str, bool | int | float | str]
    calibration: photocalib.ChebyshevField | None = None


def read_exposure(path: Path, part: Callable[[ExposureSummary], Part] = lambda _summary: None) -> Exposure:
    """Read an exposure: pixels, PSF, WCS, zero point and the rest of its header.

    Parameters
    ----------
    path : `pathlib.Path`
        A FITS file with image, mask and variance in HDUs 1 to 3, plain or compressed; an image in HDU 0
        has a blank mask and variance, as in afw. Or a file of lsst-images, whose HDUs go by their names.
    part : callable, optional
        Says by all but the pixels which of them are wanted. The others are summed where there is a checksum,
        and not kept.

    Returns
    -------
    exposure : `Exposure`
        float32 and int32 arrays of its own. Mask planes have the default bits, further ones the next.

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged or holds what cannot be used; the message names it.
    """
    with fitsread.opened(path) as hdus:
        summary = _summary(hdus)
        wanted = part(summary)
        return _exposure(cut(summary, wanted), *_planes(hdus, wanted))


def map_exposure(path: Path) -> Exposure:
    """Open an exposure whose pixels stay in the file: those that are looked at are read then, unproved.

    Its arrays are read-only, of the file's types and byte order, and its planes have the file's bits. A file
    that does not hold its pixels one by one, as they are, is read whole. Raises as `read_exposure`.
    """
    with fitsread.opened(path, pixels=False) as hdus:
        summary, found = _summary(hdus), _mapped(hdus)
    return _exposure(summary, *found) if found else read_exposure(path)


def read_bands(path: Path, most: int, height: int, part: Part = None) -> list[Exposure]:
    """Read some rows of an exposure, for what may be judged by a part of the pixels.

    No checksum is looked at.

    Parameters
    ----------
    path : `pathlib.Path`
        As for `read_exposure`.
    most : `int`
        About how many pixels to read; a smaller image is read whole.
    height : `int`
        Rows of a band.
    part : `Part`, optional
        Rows and columns in which they lie.

    Returns
    -------
    bands : `list` [`Exposure`]
        From bottom to top, evenly spread, each with its own ``xy0``.

    Raises
    ------
    diffrun.errors.DataError
        As `read_exposure`.
    """
    with fitsread.opened(path, pixels=False) as hdus:
        summary = _summary(hdus)
        rows, columns = part or (slice(0, summary.shape[0]), slice(0, summary.shape[1]))
        count = max(most // (height * (columns.stop - columns.start)), 1)
        if count * height >= rows.stop - rows.start:
            return [_exposure(cut(summary, part), *_planes(hdus, part))]
        starts = np.linspace(rows.start, rows.stop - height, count + 2)[1:-1].astype(int)
        parts = [(slice(first, first + height), columns) for first in starts.tolist()]
        return [_exposure(cut(summary, part), *_planes(hdus, part)) for part in parts]


def cut(summary: ExposureSummary, part: Part) -> ExposureSummary:
    """What is said of some of the pixels."""
    if part is None:
        return summary
    (rows, columns), (x0, y0) = part, summary.xy0
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    return replace(summary, shape=shape, xy0=(x0 + columns.start, y0 + rows.start))


def _exposure(
    summary: ExposureSummary,
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    planes: dict[str, int],
) -> Exposure:
    return Exposure(
        image=image,
        mask=mask,
        variance=variance,
        wcs=summary.wcs,
        psf=summary.psf,
        xy0=summary.xy0,
        planes=planes,
        filter=summary.filter,
        flux_mag0=summary.flux_mag0,
        flux_mag0_err=summary.flux_mag0_err,
        calibration=summary.calibration,
        mjd=summary.mjd,
        exposure_time=summary.exposure_time,
        metadata=summary.metadata,
    )


def read_summary(path: Path) -> ExposureSummary:
    """Read all but the pixels of an exposure; raises as `read_exposure`."""
    with fitsread.opened(path, pixels=False) as hdus:
        return _summary(hdus)


def read_kernel(path: Path) -> LinearCombinationKernel:
    """Read a stand-alone kernel, object 1 of an archive whose index is HDU 1.

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged or holds no kernel that can be used.
    """
    with fitsread.opened(path) as hdus:
        archive = Archive.read(hdus, 1)
        return kernelarchive.read_kernel(archive, 1, (0.0, 0.0, 4096.0, 4096.0))


def _summary(hdus: list[fitsread.Hdu]) -> ExposureSummary:
    """Everything but the pixels."""
    where = _image_hdu(hdus)
    image_header = hdus[where].header
    header = _header(hdus, image_header)
    version = int(header.get("EXPINFO_V", 0))
    if version > _MAX_EXPINFO:
        raise DataError(
            f"EXPINFO_V {version} is newer than {_MAX_EXPINFO}, the last one known", "update diffrun"
        )
    archive = Archive.read(hdus, int(header["AR_HDU"]) - 1) if int(header.get("AR_HDU", 0)) else Archive({})
    ny, nx = hdus[where].shape[-2:]
    xy0 = cards.origin(image_header)
    box = (float(xy0[0]), float(xy0[1]), float(xy0[0] + nx - 1), float(xy0[1] + ny - 1))
    psf_id = _component(header, "PSF")
    flux_mag0, flux_mag0_err, calibration = _zero_point(header, image_header, archive)
    return ExposureSummary(
        shape=(ny, nx),
        xy0=xy0,
        wcs=_wcs(header, image_header, archive, box),
        psf=psfarchive.read_psf(archive, psf_id, box) if psf_id else None,
        filter=_filter(header, archive),
        flux_mag0=flux_mag0,
        flux_mag0_err=flux_mag0_err,
        calibration=calibration,
        mjd=cards.middle(header),
        exposure_time=cards.number(header, "EXPTIME"),
        metadata=cards.metadata(header),
    )


def _header(hdus: list[fitsread.Hdu], image_header: Header) -> Header:
    """The cards that are about the exposure as a whole."""
    if lsstimages.is_one(hdus):
        return lsstimages.primary(hdus)
    # Without INHERIT afw ignores the primary's cards.
    return hdus[0].header if image_header.get("INHERIT") is True else image_header


def _image_hdu(hdus: list[fitsread.Hdu]) -> int:
    """The number of the HDU with the image: 0 or 1, unless they go by their names."""
    where = lsstimages.place(hdus, "IMAGE") if lsstimages.is_one(hdus) else 0 if hdus[0].shape else 1
    if where == len(hdus) or not hdus[where].is_image or len(hdus[where].shape) not in (2, 3):
        raise DataError("there is no image in HDU 0 or 1", _ANEW)
    if len(hdus[where].shape) == 3 and hdus[where].shape[0] != 1:
        raise DataError(f"the image has {hdus[where].shape[0]} planes", "give a two-dimensional image")
    if 0 in hdus[where].shape:
        raise DataError("the image has no pixels", _ANEW)
    return where


def _component(header: Header, name: str) -> int:
    """The archive id of a component, 0 for none."""
    return int(header.get(f"ARCHIVE_ID_{name}", header.get(f"{name}_ID", 0)))


def _wcs(
    header: Header, image_header: Header, archive: Archive, box: tuple[float, float, float, float]
) -> Wcs | None:
    """The archive's WCS, else the image header's; `None` where there is neither."""
    number = _component(header, "WCS")
    if number and archive.name(number) == "TanWcs":
        return persistence.read_tan_wcs(archive, number)
    written = headerwcs.read(image_header, (int(box[0]), int(box[1]))) if "CTYPE1" in image_header else None
    number = _component(header, "SKYWCS")
    if not number or not archive.name(number):
        return written
    try:
        exact = persistence.read_wcs(archive, number)
    except DataError:
        # A header is good to a thousandth of a pixel wherever afw writes one.
        if written is None:
            raise
        return written
    return written if written is not None and nearest.agree(written, exact, box) else exact


def _zero_point(
    header: Header, image_header: Header, archive: Archive
) -> tuple[float, float, photocalib.ChebyshevField | None]:
    """Counts of an AB magnitude 0 source, their error, how they vary; NaN when not calibrated."""
    number = _component(header, "PHOTOCALIB")
    if number:
        return photocalib.read(archive, number)
    flux, error = cards.number(header, "FLUXMAG0"), cards.number(header, "FLUXMAG0ERR")
    if flux > 0:
        return flux, error if error >= 0 else 0.0, None
    return photocalib.of_unit(image_header.get("BUNIT", header.get("BUNIT"))), 0.0, None


def _filter(header: Header, archive: Archive) -> str:
    """The band by its label, else by the FILTER card."""
    number = _component(header, "FILTER")
    if number:
        return persistence.read_band(archive, number) or "_unknown_"
    return str(header.get("FILTER", "_unknown_")).strip() or "_unknown_"


def _planes(
    hdus: list[fitsread.Hdu], part: Part
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], dict[str, int]]:
    """Image, mask, variance, and the planes of the mask."""
    if _image_hdu(hdus) == 0:
        image = _pixels(hdus[0], part)
        return image, np.zeros(image.shape, np.int32), np.zeros_like(image), dict(DEFAULT_PLANES)
    named = lsstimages.is_one(hdus)
    kinds = ("IMAGE", "MASK", "VARIANCE")
    places = [lsstimages.place(hdus, kind) for kind in kinds] if named else [1, 2, 3]
    for number, kind in zip(places, kinds, strict=True):
        found = hdus[number].header.get("EXTTYPE", kind) if number < len(hdus) else "missing"
        if str(found).strip() != kind or not hdus[number].is_image:
            raise DataError(f"HDU {number} should be the {kind}, and is {str(found).strip()}", _ANEW)
    shapes = [hdus[number].shape[-2:] for number in places]
    if len(set(shapes)) > 1:
        raise DataError("image {}, mask {}, variance {} differ in shape".format(*shapes), _ANEW)
    image, variance = _pixels(hdus[places[0]], part), _pixels(hdus[places[2]], part)
    if named:
        raw, bits = lsstimages.masks(hdus, partial(_integers, part=part))
    else:
        raw, bits = _integers(hdus[2], part), cards.plane_bits(hdus[2].header)
    origins = {cards.origin(hdus[number].header) for number in places}
    if len(origins) > 1:
        raise DataError(f"image, mask and variance have the origins {sorted(origins)}", "make the file anew")
    mask, planes = cards.renumber(raw, bits)
    return image, mask, variance, planes


def _mapped(
    hdus: list[fitsread.Hdu],
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], dict[str, int]] | None:
    """As `_planes`, without a look at the pixels, where they stand in the file as they are."""
    if lsstimages.is_one(hdus) or _image_hdu(hdus) != 1 or len(hdus) < 4:
        return None
    planes = cards.plane_bits(hdus[2].header)
    found = []
    for hdu, kind in zip(hdus[1:], ("IMAGE", "MASK", "VARIANCE"), strict=False):
        data = hdu.mapped()
        if data is None or data.shape != hdus[1].shape or hdu.header.get("EXTTYPE", kind).strip() != kind:
            return None
        # BZERO makes integers unsigned: of the bits it turns the first alone.
        first = 8 * data.itemsize - 1
        moved = hdu.header.get("BSCALE", 1) != 1 or hdu.header.get("BZERO", 0) not in (0, 1 << first)
        if moved or data.dtype.kind != ("i" if kind == "MASK" else "f"):
            return None
        if kind == "MASK" and max(planes.values(), default=0) >= first:
            return None
        found.append(data.reshape(data.shape[-2:]))
    image, mask, variance = found
    return image, mask, variance, planes


def _stored(hdu: fitsread.Hdu, part: Part) -> NDArray[Any]:
    """A plane as it is stored, or a part of it."""
    if part is None:
        return hdu.pixels().reshape(hdu.shape[-2:])
    return hdu.part(*part)


def _pixels(hdu: fitsread.Hdu, part: Part) -> NDArray[np.float32]:
    """An image plane as float32, with its scale applied."""
    data = _stored(hdu, part)
    scale, zero = float(hdu.header.get("BSCALE", 1)), float(hdu.header.get("BZERO", 0))
    if (scale, zero) != (1.0, 0.0):
        data = data * scale + zero
    return np.ascontiguousarray(data, np.float32)


def _integers(hdu: fitsread.Hdu, part: Part) -> NDArray[np.int32]:
    """A mask plane as int32; its BLANK card means nothing."""
    data = _stored(hdu, part)
    scale, zero = float(hdu.header.get("BSCALE", 1)), float(hdu.header.get("BZERO", 0))
    if data.dtype.kind not in "iu" or scale != 1 or zero != round(zero):
        raise DataError(
            f"the mask has pixels of the type {data.dtype.name}, scale {scale}", "make the file anew"
        )
    return np.asarray(np.add(data, np.int32(zero), dtype=np.int32))
