# SPDX-License-Identifier: BSD-3-Clause
"""Pixels too sharp to be light that came through the telescope: hot ones, and cosmic rays."""

from __future__ import annotations

import logging
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from diffrun.engine.masks import with_planes
from diffrun.files.afw.exposure import Exposure
from diffrun.threads import bands, each

Bool = NDArray[np.bool_]
Index = NDArray[np.int64]
Image = NDArray[np.float32]

_SIGMA = 8.0
#: The pixels of a track are found one after the other, in so many rounds; rows looked at together.
_ROUNDS, _BAND = 3, 256
#: Pixels of a row that are looked at together.
_STRIP = 64
#: A spike has neighbours fainter than this part of what a star's have.
_SHARPNESS = 0.5
#: Below this ratio of a star's neighbours to its peak no spike can be told from a star.
_UNDERSAMPLED = 0.2
#: Planes whose pixels are known for what they are.
_KNOWN = ("NO_DATA", "SAT", "BAD", "CR", "INTRP")
_BESIDE = ((0, 1), (0, -1), (1, 0), (-1, 0))


def repaired(exposure: Exposure, name: str, log: logging.Logger) -> Exposure:
    """The exposure with its unmasked spikes closed from around them, and marked CR and INTRP.

    Parameters
    ----------
    exposure : `Exposure`
        Finite everywhere, sky at 0, with a PSF. Its image is changed in place.
    name : `str`
        Which image it is, for the log.
    log : `logging.Logger`
        Told how many there are.
    """
    known = np.int32(exposure.bits(*_KNOWN))
    beside = neighbours(exposure.psf.kernel_image(*exposure.psf.average_position))
    rows, columns = spikes(exposure.image, exposure.variance, exposure.mask, known, beside)
    apart = ~_beside_saturated(exposure, rows, columns)
    rows, columns = rows[apart], columns[apart]
    if not len(rows):
        return exposure
    log.warning(
        "%d pixels of the %s are too sharp for its PSF (hot, cosmic rays): interpolated, marked CR",
        len(rows),
        name,
    )
    planes = with_planes(exposure.planes, "CR", "INTRP")
    mask = exposure.mask.copy()
    mask[rows, columns] |= np.int32((1 << planes["CR"]) | (1 << planes["INTRP"]))
    marked = exposure.replace(mask=mask, planes=planes)
    exposure.image[rows, columns] = _from_around(marked, rows, columns)
    return marked


def _beside_saturated(exposure: Exposure, rows: Any, columns: Any) -> Bool:
    """Whether charge may have run over from a saturated pixel, with edges as sharp as a cosmic ray's."""
    saturated, reach = np.int32(exposure.bits("SAT")), np.arange(-_ROUNDS, _ROUNDS + 1)
    y = np.clip(rows[:, None] + reach, 0, exposure.shape[0] - 1)
    x = np.clip(columns[:, None] + reach, 0, exposure.shape[1] - 1)
    return np.asarray(((exposure.mask[y[:, :, None], x[:, None, :]] & saturated) != 0).any(axis=(1, 2)))


def neighbours(star: Any) -> float:
    """The mean of the four next pixels of a star in the middle of its stamp, in units of its peak."""
    y, x = (n // 2 for n in star.shape)
    return float(np.mean([star[y + dy, x + dx] for dy, dx in _BESIDE]) / star[y, x])


def _from_around(exposure: Exposure, rows: Any, columns: Any) -> Image:
    """The mean of the good ones of the eight pixels about each pixel, the sky where there is none."""
    known = np.int32(exposure.bits(*_KNOWN))
    total, count = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    for dy, dx in ((j, i) for j in (-1, 0, 1) for i in (-1, 0, 1) if i or j):
        y = np.clip(rows + dy, 0, exposure.shape[0] - 1)
        x = np.clip(columns + dx, 0, exposure.shape[1] - 1)
        good = (exposure.mask[y, x] & known) == 0
        total += np.where(good, exposure.image[y, x], 0)
        count += good
    return np.asarray(total / np.maximum(count, 1))


def spikes(
    image: Image, variance: Image, mask: NDArray[Any], known: np.generic, beside: float
) -> tuple[Index, Index]:
    """Pixels too sharp for the seeing: hot pixels and cosmic rays.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Sky at 0.
    variance : `numpy.ndarray`, (ny, nx), float32
    mask : `numpy.ndarray`, (ny, nx), integers or bool
        Where it has a bit of ``known``, the pixel is known for what it is.
    known : `numpy.generic`
        A scalar of the type of ``mask``.
    beside : `float`
        The mean of the four next pixels of a star in the middle of a pixel, in units of its peak.

    Returns
    -------
    rows, columns : `numpy.ndarray`, (n,)

    Notes
    -----
    The sharpest star has its peak in the middle of a pixel. A pixel whose next ones hold less than half of
    what such a star would leave there is none. The pixels of longer tracks are found one after the other.
    """
    found = np.zeros(0, np.int64)
    if beside >= _UNDERSAMPLED:
        sharpness = _SHARPNESS * beside
        for _ in range(_ROUNDS):
            new: list[Index] = []

            def do(band: tuple[int, int], new: list[Index] = new, found: Index = found) -> None:
                size = 4096
                while True:
                    pixels = np.empty(size, np.int64)
                    n = _sharp(image, variance, mask, known, sharpness, found, band, pixels)
                    if n <= size:
                        break
                    size = n
                new.append(pixels[:n])

            each(do, bands(image.shape[0], _BAND))
            if not any(len(pixels) for pixels in new):
                break
            found = np.sort(np.concatenate([found, *new]))
    rows, columns = np.divmod(found, image.shape[1])
    return rows, columns


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sharp(image, variance, mask, known, sharpness, found, band, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The spikes of a band beside those found before: their number, and as many as there is room for."""
    ny, nx = image.shape
    factor = np.float32(_SIGMA * _SIGMA)
    n = 0
    for j in range(*band):
        for first in range(0, nx, _STRIP):
            end = min(first + _STRIP, nx)
            bright = 0
            for i in range(first, end):  # without a branch: most strips are blank sky
                bright |= (image[j, i] > 0) & (image[j, i] * image[j, i] > factor * variance[j, i])
            if not bright:
                continue
            for i in range(first, end):
                peak = image[j, i]
                if peak <= 0 or peak * peak <= factor * variance[j, i]:
                    continue
                if mask[j, i] & known or _among(found, j * nx + i):
                    continue
                total, count = 0.0, 0
                for y, x in ((j, i + 1), (j, i - 1), (j + 1, i), (j - 1, i)):
                    inside = 0 <= y < ny and 0 <= x < nx
                    if inside and not mask[y, x] & known and not _among(found, y * nx + x):
                        total += image[y, x]
                        count += 1
                if count >= 2 and total / count < sharpness * peak - 3 * np.sqrt(variance[j, i] / count):
                    if n < len(out):
                        out[n] = j * nx + i
                    n += 1
    return n


@numba.njit(inline="always")
def _among(found, pixel):  # type: ignore[no-untyped-def]  # pragma: no cover
    place = np.searchsorted(found, pixel) if len(found) else 0
    return place < len(found) and found[place] == pixel
