# SPDX-License-Identifier: BSD-3-Clause
"""What bright stars do to a difference: how wrong the match is there, and where nothing can be judged."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from diffrun.engine.robust import weighted_median
from diffrun.engine.significance import Filter, Sums
from diffrun.files.afw.exposure import Exposure

Float = NDArray[np.float32]
Index = NDArray[np.int32]

#: Stars that tell the error of the match: over this S/N in the template, the brightest in each square of so
#: many pixels, and no more than so many.
_SNR, _SQUARE, _MOST = 60.0, 32, 300
#: Fewer stars tell nothing; then, and at the least, the relative error is taken to be this.
_FEWEST, UNKNOWN, LEAST = 8, 0.006, 0.001
#: Median of the mean of so few squares that a star has independent.
_MEDIAN = 0.8
#: The halo of a saturated star is where its light exceeds this many sigma of the matched filter.
_HALO = 100.0


def model_error(found: Filter, noise: float) -> float:
    """Relative error ε of the matched template with which the residuals of bright stars are noise.

    S² ~ 1 + ε² contrast / noise² at points around each star, but for stars that varied.

    Parameters
    ----------
    found : `Filter`
    noise : `float`
        Typical noise of the filter.
    """
    rows, columns = _stars(found, noise)
    step = np.arange(-2, 3) * 2
    down, right = (g.ravel().astype(np.int32) for g in np.meshgrid(step, step, indexing="ij"))
    if len(rows) < _FEWEST:
        return UNKNOWN
    sums = found.at((rows[:, None] + down).ravel(), (columns[:, None] + right).ravel())
    return fitted_error(sums, len(rows))


def fitted_error(sums: Sums, stars: int) -> float:
    """The error that explains the residuals at some points around each of ``stars`` stars.

    The median over the stars, each with the weight with which it tells ε²: half of that may vary.
    """
    good = sums.noise2 > 0
    noise2 = np.where(good, sums.noise2, 1.0)
    s2 = np.where(good, sums.signal**2 / noise2, 0.0).reshape(stars, -1)
    q2 = np.where(good, sums.contrast2 / noise2, 0.0).reshape(stars, -1)
    told = q2.sum(axis=1)
    each = (s2 - 1).sum(axis=1) / np.maximum(told, 1e-30)
    return max(LEAST, float(np.sqrt(max(weighted_median(each, told), 0.0) / _MEDIAN)))


def _stars(found: Filter, noise: float) -> tuple[Index, Index]:
    """Brightest pixels of the squares that have a star without a mask bit near it."""
    science, mask = found.science, found.exposure.mask
    ny, nx = (n // _SQUARE * _SQUARE for n in science.shape)
    squares = science[:ny, :nx].reshape(ny // _SQUARE, _SQUARE, nx // _SQUARE, _SQUARE)
    top = squares.max(axis=(1, 3))
    j, i = np.nonzero(top > _SNR * noise)
    order = np.argsort(-top[j, i], kind="stable")[: 3 * _MOST]
    j, i = j[order], i[order]
    at = squares[j, :, i, :].reshape(len(j), _SQUARE**2).argmax(axis=1)
    rows, columns = j * _SQUARE + at // _SQUARE, i * _SQUARE + at % _SQUARE
    clean = [
        not mask[max(0, y - 12) : y + 13, max(0, x - 12) : x + 13].any()
        for y, x in zip(rows, columns, strict=True)
    ]
    keep = np.nonzero(np.array(clean, bool))[0][:_MOST]
    return rows[keep].astype(np.int32), columns[keep].astype(np.int32)


def halos(exposure: Exposure, science: Float, noise: float) -> NDArray[np.int64]:
    """Where a saturated star outshines what can be judged: its light, as far as it is bright.

    The convolution and the whitening carry what saturation took from a star's core into its halo.

    Parameters
    ----------
    exposure : `Exposure`
        The difference.
    science : `numpy.ndarray`, (ny, nx), float32
    noise : `float`
        Typical noise of the matched filter, in the image's unit.

    Returns
    -------
    pixels : `numpy.ndarray`, (n,), int64
        Flat indices.
    """
    saturated = np.int32(exposure.bits("SAT", "SAT_TEMPLATE"))
    return np.asarray(_flood(exposure.image, science, exposure.mask, saturated, np.float32(_HALO * noise)))


@numba.njit(cache=True, error_model="numpy")
def _flood(image, science, mask, saturated, level):  # type: ignore[no-untyped-def]  # pragma: no cover
    """All saturated pixels, and those that touch a found one and whose light is brighter than a level."""
    ny, nx = image.shape
    known = np.zeros((ny, nx), np.bool_)
    found = [np.int64(0) for _ in range(0)]
    for y in range(ny):
        for x in range(nx):
            if mask[y, x] & saturated:
                known[y, x] = True
                found.append(np.int64(y * nx + x))
    at = 0
    while at < len(found):
        row, column = found[at] // nx, found[at] % nx
        at += 1
        for y in range(max(0, row - 1), min(ny, row + 2)):
            for x in range(max(0, column - 1), min(nx, column + 2)):
                if not known[y, x] and max(science[y, x], science[y, x] - image[y, x]) > level:
                    known[y, x] = True
                    found.append(np.int64(y * nx + x))
    return np.array(found, np.int64) if len(found) else np.zeros(0, np.int64)
