# SPDX-License-Identifier: BSD-3-Clause
"""Pixels too sharp to be light that came through the telescope: hot ones, and cosmic rays."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.masks import with_planes
from diffrun.files.afw.exposure import Exposure

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_SIGMA = 8.0
#: The pixels of a track are found one after the other, in so many rounds; rows looked at together.
_ROUNDS, _BAND = 3, 512
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
    neighbours = _neighbours(exposure.psf)
    known = np.int32(exposure.bits(*_KNOWN))
    found = []
    for top in range(0, exposure.shape[0], _BAND):
        low, high = max(top - _ROUNDS, 0), top + _BAND + _ROUNDS
        usable = (exposure.mask[low:high] & known) == 0
        sigma = np.sqrt(exposure.variance[low:high])
        rows, columns = np.nonzero(spikes(exposure.image[low:high], sigma, usable, neighbours))
        rows += low
        mine = (rows >= top) & (rows < top + _BAND)
        found.append(np.stack([rows[mine], columns[mine]]))
    rows, columns = np.concatenate(found, axis=1)
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


def _neighbours(psf: Any) -> float:
    """The mean of the four next pixels of a star in the middle of a pixel, in units of its peak."""
    star = np.asarray(psf.kernel_image(*psf.average_position))
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


def spikes(image: Image, sigma: Image, usable: Bool, neighbours: float) -> Bool:
    """Pixels too sharp for the seeing: hot pixels and cosmic rays.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Sky at 0.
    sigma : `numpy.ndarray`, (ny, nx), float32
        Noise of the sky.
    usable : `numpy.ndarray`, (ny, nx), bool
        Pixels known to be good.
    neighbours : `float`
        The mean of the four next pixels of a star in the middle of a pixel, in units of its peak.

    Notes
    -----
    The sharpest star has its peak in the middle of a pixel. A pixel whose next ones hold less than half of
    what such a star would leave there is none. The pixels of longer tracks are found one after the other.
    """
    found = np.zeros(image.shape, bool)
    if neighbours < _UNDERSAMPLED:
        return found
    for _ in range(_ROUNDS):
        good = usable & ~found
        rows, columns = np.nonzero((image > _SIGMA * sigma) & good)
        total, count = np.zeros(len(rows)), np.zeros(len(rows))
        for dy, dx in _BESIDE:
            y, x = rows + dy, columns + dx
            inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
            y, x = np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)
            inside &= good[y, x]
            total += np.where(inside, image[y, x], 0.0)
            count += inside
        peak, noise = image[rows, columns], sigma[rows, columns]
        mean = total / np.maximum(count, 1)
        limit = _SHARPNESS * neighbours * peak - 3 * noise / np.sqrt(np.maximum(count, 1))
        new = (mean < limit) & (count >= 2)
        if not new.any():
            break
        found[rows[new], columns[new]] = True
    return found
