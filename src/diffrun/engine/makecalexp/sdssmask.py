# SPDX-License-Identifier: BSD-3-Clause
"""Masks of SDSS frames: fpM files, as photo wrote them.

An HDU for each type of mask holds a table of objects, each with its spans in the heap: triples y, x0, x1 of
16-bit integers, ends included. The last HDU names the types, by their numbers from 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.exposure import DEFAULT_PLANES

#: Types that say something of the pixels themselves; the others tell where objects are.
_PLANES = {"S_MASK_INTERP": "INTRP", "S_MASK_SATUR": "SAT", "S_MASK_CR": "CR"}
_REMEDY = "get a whole copy of this file, or leave it out"


def is_mask(hdus: fits.HDUList) -> bool:
    """Whether a file is an fpM file."""
    return len(hdus) > 1 and hdus[-1].header.get("TYPENAME") == "S_MASKTYPE"


def read(
    hdus: fits.HDUList, shape: tuple[int, int], path: Path
) -> tuple[NDArray[np.int32], dict[str, int], str]:
    """The mask of a frame.

    Parameters
    ----------
    hdus : `astropy.io.fits.HDUList`
    shape : `tuple` [`int`, `int`]
        Rows and columns of the frame.
    path : `pathlib.Path`
        For the messages.

    Returns
    -------
    mask : `numpy.ndarray`, (ny, nx), int32
    planes : `dict`
        Bit of each plane by name.
    said : `str`

    Raises
    ------
    diffrun.errors.DataError
        If it is the mask of a frame of another size, or its spans do not add up to its pixel counts.
    """
    header = hdus[0].header
    size = header.get("MASKROWS"), header.get("MASKCOLS")
    if size != shape:
        raise DataError(
            f"{path} is of a frame of {size}, the image is {shape}", "give the mask of this frame"
        )
    types = {str(row["attributeName"]).strip(): int(row["Value"]) for row in hdus[-1].data}
    mask = np.zeros(shape, np.int32)
    counts = []
    for name, plane in _PLANES.items():
        if not 0 <= types.get(name, -1) < len(hdus) - 2:
            raise DataError(f"{path} has no {name}", _REMEDY)
        marked = _painted(hdus[types[name] + 1].data, shape, path)
        mask |= marked.astype(np.int32) << DEFAULT_PLANES[plane]
        counts.append(f"{plane} {marked.sum()}")
    return mask, dict(DEFAULT_PLANES), f"{path.name}, an fpM file of SDSS ({', '.join(counts)} pixels)"


def _painted(table: Any, shape: tuple[int, int], path: Path) -> NDArray[np.bool_]:
    """The pixels of all objects of one type."""
    marked = np.zeros(shape, bool)
    for row in table:
        spans = np.frombuffer(np.asarray(row["s"], np.uint8).tobytes(), ">i2").reshape(-1, 3).astype(int)
        y, x0, x1 = spans.T
        inside = (y >= 0) & (y < shape[0]) & (x0 >= 0) & (x0 <= x1) & (x1 < shape[1])
        if not inside.all() or (x1 - x0 + 1).sum() != row["npix"] or row["row0"] or row["col0"]:
            raise DataError(f"{path}: the spans of a mask do not add up", _REMEDY)
        for line, first, last in spans:
            marked[line, first : last + 1] = True
    return marked
