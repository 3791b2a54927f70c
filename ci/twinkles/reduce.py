# SPDX-License-Identifier: BSD-3-Clause
"""From counts to a calexp: repair, background, PSF, mask planes (what processCcd does)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from render import Frame
from scipy.ndimage import binary_dilation, gaussian_filter
from visits import READ_NOISE, SIZE, XY0

from diffrun.files.afw.background import Background, Layer
from diffrun.files.afw.exposure import DEFAULT_PLANES

BIN = 128  # pixels on a side of a background bin
THRESHOLD = 5.0  # sigma, of the DETECTED plane and of src

Array = NDArray[np.float64]


def plane(name: str) -> int:
    """The bit of a mask plane."""
    return 1 << DEFAULT_PLANES[name]


def repair(frame: Frame) -> NDArray[np.int32]:
    """Counts with dead columns and cosmic rays interpolated along the rows, as whole numbers."""
    counts = frame.counts.copy()
    bad = frame.dead | frame.cosmic
    columns = np.arange(SIZE)
    for row in np.nonzero(bad.any(axis=1))[0]:
        hole = bad[row]
        filled = np.interp(columns[hole], columns[~hole], counts[row, ~hole].astype(float))
        counts[row, hole] = np.rint(filled).astype(np.int32)
    return counts


def variance_of(counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Photon noise of sky and sources, gain 1, and read noise."""
    return (np.maximum(counts, 0) + READ_NOISE**2).astype(np.float32)


def fit_background(counts: NDArray[np.int32], sources: NDArray[np.bool_]) -> Background:
    """Akima's spline through the means of bins, outside sources, after clipping at 3 sigma."""
    n = SIZE // BIN
    grid, error = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    for j in range(n):
        for i in range(n):
            box = np.s_[j * BIN : (j + 1) * BIN, i * BIN : (i + 1) * BIN]
            values = counts[box][~sources[box]].astype(float)
            for _ in range(3):
                middle, spread = np.median(values), np.std(values)
                values = values[np.abs(values - middle) < 3 * spread]
            grid[j, i], error[j, i] = values.mean(), values.var() / len(values)
    return Background((Layer(grid, error, (*XY0, SIZE, SIZE)),))


def sources_of(image: Array, variance: Array, sigma: float, threshold: float) -> NDArray[np.bool_]:
    """Where the image smoothed with a Gaussian PSF stands above the threshold, in its own sigma."""
    smooth = gaussian_filter(image, sigma, truncate=3.5)
    noise = np.sqrt(gaussian_filter(variance, sigma / np.sqrt(2), truncate=3.5) / (4 * np.pi * sigma**2))
    return np.asarray(smooth > threshold * noise)


def mask_of(frame: Frame, detected: NDArray[np.bool_], sigma: float) -> NDArray[np.int32]:
    """The mask: defects of the frame, detections grown by 2.4 sigma, the edge that detection cannot see."""
    mask = np.zeros(frame.counts.shape, np.int32)
    for name, where in (
        ("BAD", frame.dead),
        ("CR", frame.cosmic),
        ("INTRP", frame.dead | frame.cosmic),
        ("SAT", frame.saturated),
        ("DETECTED", grow(detected, int(2.4 * sigma + 0.5))),
    ):
        mask[where] |= plane(name)
    rim = (int(sigma * 7 + 0.5) // 2 * 2 + 1) // 2
    edge = np.ones(mask.shape, bool)
    edge[rim:-rim, rim:-rim] = False
    mask[edge] |= plane("EDGE")
    return mask


def grow(where: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """A mask grown by a disc."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(binary_dilation(where, structure=x * x + y * y <= radius * radius))
