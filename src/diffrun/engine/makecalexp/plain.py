# SPDX-License-Identifier: BSD-3-Clause
"""The image of a plain FITS file: which HDU it is in, its pixels in their true scale, its cards."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files import fits as door
from diffrun.files.afw.reader import Part
from diffrun.files.fitsread import opened

#: Names that an image, a mask, and each way to write down noise go by, the surest first.
IMAGE_NAMES = ("SCI", "IMAGE", "SCIENCE", "DATA", "FLUX")
MASK_NAMES = ("MASK", "DQ", "FLAGS", "FLAG", "BPM", "MSK", "QUALITY", "DATAQUALITY")
VARIANCE_NAMES = ("VARIANCE", "VAR", "STAT")
SIGMA_NAMES = ("ERR", "ERROR", "SIGMA", "RMS", "NOISE", "STD", "STDDEV", "UNCERT", "UNCERTAINTY")
WEIGHT_NAMES = ("WEIGHT", "WHT", "WGT", "WT", "IVAR", "IVM", "INVVAR", "INVERSE_VARIANCE")
_STACK_PLANES = ("IMAGE", "MASK", "VARIANCE")
#: What BZERO is where integers are stored unsigned; on real numbers such a card is a leftover.
_UNSIGNED = (32768.0, 2147483648.0)
_OTHER = "give a two-dimensional image"


@dataclass(frozen=True)
class Plain:
    """One image as it stands in its file.

    Attributes
    ----------
    pixels : `numpy.ndarray`, (ny, nx), float32
        In the file's unit; NaN where the file has no number.
    step : `float`
        Distance of neighbouring values, 0 where they are not on a grid.
    header : `dict`
        Cards of the image's HDU, and beneath them those of the first HDU.
    wcs_header : `astropy.io.fits.Header`
        Of the image's HDU alone.
    hdu : `int`
    whole : `tuple` [`int`, `int`]
        (ny, nx) of the image in the file.
    notes : `tuple` [`str`, ...]
        What was assumed.
    """

    pixels: NDArray[np.float32]
    step: float
    header: Mapping[str, Any]
    wcs_header: fits.Header
    hdu: int
    whole: tuple[int, int]
    notes: tuple[str, ...] = ()


def read(hdus: fits.HDUList, wanted: str | None, path: Path, part: Part = None) -> Plain:
    """The image of an open file.

    Parameters
    ----------
    hdus : `astropy.io.fits.HDUList`
        As `open_file` gives it, data not scaled.
    wanted : `str`, optional
        Number or name of the HDU; by default the one with an image's name, else the first image.
    path : `pathlib.Path`
        For the messages.
    part : `Part`, optional
        The rows and columns that are wanted; its WCS is that of the part.

    Raises
    ------
    diffrun.errors.DataError
        If there is no image, or not the one that is wanted.
    """
    number, notes = choose(hdus, wanted, path)
    hdu, whole = hdus[number], (int(hdus[number].shape[-2]), int(hdus[number].shape[-1]))
    pixels, further = scaled(hdu, part)
    header = hdu.header.copy()
    for axis, along in enumerate((part[1], part[0]) if part else (), 1):
        header[f"CRPIX{axis}"] = _number(header, f"CRPIX{axis}", 0.0) - along.start
    return Plain(
        pixels,
        _step(pixels),
        cards(hdus, number),
        header,
        number,
        whole,
        (*part_note(part), *notes, *further),
    )


def cards(hdus: fits.HDUList, number: int) -> dict[str, Any]:
    """The cards of an HDU, and beneath them those of the first."""
    return {**_cards(hdus[0].header), **_cards(hdus[number].header)}


@contextmanager
def open_file(path: Path, pixels: bool = True) -> Iterator[fits.HDUList]:
    """The HDUs of a file that has passed all checks, data not scaled; `DataError` for one that has not.

    Without ``pixels`` their checksums are not looked at. What is not looked at is not kept in memory.
    """
    with opened(path, pixels=pixels):
        pass  # bounds and checksums, before astropy looks at it
    with door.reading(path), door.mapped(path) as (_, data), path.open("rb") as stream:
        content = io.BytesIO(data) if isinstance(data, bytes) else stream
        with fits.open(content, do_not_scale_image_data=True, lazy_load_hdus=False) as hdus:
            for hdu in hdus[1:]:
                kind = _cards(hdu.header).get("EXTTYPE")  # the name of a plane in afw's files
                if not hdu.name and kind in _STACK_PLANES:
                    hdu.name = kind
            yield hdus


def choose(hdus: fits.HDUList, wanted: str | None, path: Path) -> tuple[int, list[str]]:
    """The number of the HDU with the image, and what was assumed."""
    images = [number for number, hdu in enumerate(hdus) if is_image(hdu)]
    listed = ", ".join(f"{n} {hdus[n].name}".strip() for n in images)
    if wanted is not None:
        for number in images:
            if wanted.upper() in (str(number), hdus[number].name.upper()):
                return number, []
        raise DataError(f"{path} has no image in HDU {wanted}", f"it has images in HDU {listed or 'none'}")
    if not images:
        raise DataError(f"{path} has no image", _OTHER)
    others = {*MASK_NAMES, *VARIANCE_NAMES, *SIGMA_NAMES, *WEIGHT_NAMES}
    names = {number: hdus[number].name.upper() for number in images}
    named = [n for name in IMAGE_NAMES for n in images if names[n] == name]
    rest = named or [n for n in images if names[n] not in others] or images
    same = [n for n in rest if n == rest[0] or names[n] == names[rest[0]] or not named]
    if len(same) > 1:
        return rest[0], [f"{len(same)} images are in the file: HDU {rest[0]} is used, of HDU {listed}"]
    return rest[0], []


def is_image(hdu: Any) -> bool:
    """Whether an HDU holds an image of two axes, or of more with the length 1."""
    if not hdu.is_image or not hdu.shape:
        return False
    return len(hdu.shape) >= 2 and min(hdu.shape) > 0 and int(np.prod(hdu.shape[:-2])) == 1


def stored(hdu: Any, part: Part = None) -> NDArray[Any]:
    """The pixels of an HDU, or of a part of it, as they are stored."""
    ny, nx = hdu.shape[-2:]
    if part is None:
        return np.asarray(hdu.data.reshape(ny, nx))
    rows, columns = part
    if rows.stop > ny or columns.stop > nx:
        raise DataError(f"the image has {nx} x {ny} pixels, fewer than its section needs", "give another")
    return np.asarray(hdu.section[..., rows, columns]).reshape(rows.stop - rows.start, -1)


def scaled(hdu: Any, part: Part = None) -> tuple[NDArray[np.float32], list[str]]:
    """The pixels of an HDU in their true scale, NaN where blank, and what was assumed."""
    raw = stored(hdu, part)
    scale, zero = _number(hdu.header, "BSCALE", 1.0), _number(hdu.header, "BZERO", 0.0)
    notes = []
    blank = None
    if raw.dtype.kind in "iu":
        blank = raw == int(hdu.header["BLANK"]) if "BLANK" in hdu.header else None
    elif scale == 1 and zero in _UNSIGNED:
        zero = 0.0
        notes.append(f"the card BZERO = {hdu.header['BZERO']} is not applied: these are real numbers already")
    pixels = raw.astype(np.float32)
    if (scale, zero) != (1.0, 0.0):
        pixels = (raw * scale + zero).astype(np.float32)
    if blank is not None:
        pixels[blank] = np.nan
    pixels[~np.isfinite(pixels)] = np.nan
    return np.ascontiguousarray(pixels), notes


def part_note(part: Part) -> list[str]:
    """That not all of an image is made."""
    if part is None:
        return []
    rows, columns = part
    where = f"columns {columns.start} to {columns.stop - 1}, rows {rows.start} to {rows.stop - 1}"
    return [f"of the image {where} are taken, counted from 0"]


def _step(pixels: NDArray[np.float32]) -> float:
    """The distance of neighbouring values of an image on a grid: 1 for counts; 0 for real numbers."""
    sample = pixels[::7, ::7].ravel()
    sample = sample[np.isfinite(sample)]
    values = np.unique(sample)
    if len(values) < 2 or len(values) > 0.5 * len(sample):
        whole = len(sample) > 0 and bool(np.all(sample == np.rint(sample)))
        return 1.0 if whole else 0.0
    return float(np.diff(values).min())


def _cards(header: fits.Header) -> dict[str, Any]:
    """The cards that can be read; a header may hold some that cannot."""
    found: dict[str, Any] = {}
    for card in header.cards:
        try:
            found[card.keyword] = card.value
        except (fits.VerifyError, ValueError):
            continue
    return found


def _number(header: fits.Header, name: str, default: float) -> float:
    try:
        return float(header.get(name, default))
    except (TypeError, ValueError):
        return default


def first(header: Mapping[str, Any], names: Sequence[str]) -> tuple[str, float] | None:
    """The first of some cards that holds a finite number, and its name."""
    for name in names:
        try:
            value = float(header[name])
        except (KeyError, TypeError, ValueError):
            continue
        if np.isfinite(value):
            return name, value
    return None
