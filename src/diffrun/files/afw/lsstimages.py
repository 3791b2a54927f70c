# SPDX-License-Identifier: BSD-3-Clause
"""Exposures in the container of the package lsst-images (2026): planes, masks, band (afw.md 6).

The sky is that of the FITS header, an approximation in distorted fields; the PSF is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.archive import raw_rows
from diffrun.files.afw.exposure import DEFAULT_PLANES
from diffrun.files.fitsheader import Card, Header
from diffrun.files.fitsread import Hdu

#: Planes that have another name there than in afw.
_NAMES = {
    "SATURATED": "SAT",
    "INTERPOLATED": "INTRP",
    "COSMIC_RAY": "CR",
    "DETECTION_EDGE": "EDGE",
    "UNMASKED_NAN": "UNMASKEDNAN",
}
_CONTAINER = re.compile(r"FMTVER|INDX(ADDR|SIZE)|JSON(ADDR|SIZE)|DATAMODL")
_ANEW = "get a whole copy of this file, or make it anew"
_MAX_PLANES = 31


def is_one(hdus: Sequence[Hdu]) -> bool:
    """Whether the mask names its planes as that package does."""
    return any(name.startswith("MSKN") for number in _named(hdus, "MASK") for name in hdus[number].header)


def place(hdus: Sequence[Hdu], name: str) -> int:
    """The number of the first HDU of that name.

    Raises
    ------
    diffrun.errors.DataError
        If there is none.
    """
    found = _named(hdus, name)
    if not found:
        raise DataError(f"there is no HDU {name}", _ANEW)
    return found[0]


def primary(hdus: Sequence[Hdu]) -> Header:
    """The first header without the cards of the container, and with the band where the file says it."""
    cards = [card for card in hdus[0].header.cards if not _CONTAINER.fullmatch(card.keyword)]
    band = _tree(hdus).get("band")
    if isinstance(band, str) and band.isascii() and band.isprintable():
        cards.insert(0, Card("FILTER", band))
    return Header(cards)


def masks(hdus: Sequence[Hdu], integers: Any) -> tuple[NDArray[np.int32], dict[str, int]]:
    """All mask HDUs as one, and the bit of each plane, under the names of afw.

    Parameters
    ----------
    hdus : sequence of `Hdu`
    integers : callable
        Gives the pixels of a mask HDU, (ny, nx), int32.

    Returns
    -------
    mask : `numpy.ndarray`, (ny, nx), int32
    bits : `dict`
        Beside the default planes only those that a pixel has.

    Raises
    ------
    diffrun.errors.DataError
        If there are more planes than an int32 can hold.
    """
    total: NDArray[np.uint32] | None = None
    bits: dict[str, int] = {}
    for number in _named(hdus, "MASK"):
        pixels = integers(hdus[number]).view(np.uint32)
        total = np.zeros_like(pixels) if total is None else total
        if total.shape != pixels.shape:
            raise DataError(f"the masks have the shapes {total.shape} and {pixels.shape}", _ANEW)
        used = int(np.bitwise_or.reduce(pixels, axis=None))
        for name, old in _planes(hdus[number].header):
            if name not in DEFAULT_PLANES and not used & old:
                continue
            if name in bits or len(bits) == _MAX_PLANES:
                raise DataError(f"the mask has {name} twice, or more than {_MAX_PLANES} planes", _ANEW)
            bits[name] = len(bits)
            if used & old:
                total[(pixels & np.uint32(old)) != 0] |= np.uint32(1 << bits[name])
    if total is None:
        raise DataError("there is no HDU MASK", _ANEW)
    return total.view(np.int32), bits


def _named(hdus: Sequence[Hdu], name: str) -> list[int]:
    """The numbers of the image HDUs of that name."""
    return [
        number
        for number, hdu in enumerate(hdus)
        if hdu.is_image and str(hdu.header.get("EXTNAME", "")).strip().upper() == name
    ]


def _planes(header: Header) -> list[tuple[str, int]]:
    """Names, as afw has them, and bit masks of one HDU's planes."""
    found = []
    for card, value in header.items():
        if card.startswith("MSKN"):
            mask = header.get(f"MSKM{card[4:]}", 1 << int(card[4:]))
            if mask != int(mask) or not 0 < mask < 1 << 32 or int(mask).bit_count() != 1:
                raise DataError(f"the mask plane {value} has the bit mask {mask}", _ANEW)
            found.append((_NAMES.get(str(value), str(value)), int(mask)))
    return found


def _tree(hdus: Sequence[Hdu]) -> dict[str, Any]:
    """The JSON tree; an empty one in a file of planes alone."""
    tables = [hdu for hdu in hdus if str(hdu.header.get("EXTNAME", "")).strip() == "JSON"]
    if not tables:
        return {}
    rows = raw_rows(tables[0])
    try:
        tree = json.loads(bytes(rows["JSON"][0]))
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise DataError("the JSON tree of the file cannot be read", _ANEW) from error
    return tree if isinstance(tree, dict) else {}
