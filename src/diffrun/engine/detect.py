# SPDX-License-Identifier: BSD-3-Clause
"""Detection of sources of both signs on a difference image.

A pixel belongs to a source when the matched filter of the difference's own PSF, S = Σ φ D, reaches the
threshold times its standard deviation √(Σ φ² V). No statistic is better for a point source in white noise,
which is what decorrelation leaves (Zackay, Ofek and Gal-Yam 2016, ApJ 830, 27). Growing, merging and the
order of the peaks are those of ``lsst.meas.algorithms.SourceDetectionTask``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, label

from diffrun.engine.footprint import Footprint
from diffrun.engine.kernel import correlate, squared
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import KernelPsf

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]
_NEIGHBOURS = np.ones((3, 3), int)

#: Pixels that tell nothing about a source: left out of the filter, as if the image ended there.
MISSING_PLANES = ("NO_DATA", "SAT", "SAT_TEMPLATE")


def significance(exposure: Exposure, psf: KernelPsf) -> Float:
    """The matched filter in units of its standard deviation, (ny, nx); 0 where there is no data."""
    missing = exposure.has(*MISSING_PLANES)
    image = np.where(missing, np.float32(0), exposure.image)
    variance = np.where(missing, np.float32(0), exposure.variance)
    signal = correlate(image, psf.kernel, exposure.xy0)
    noise = correlate(variance, squared(psf.kernel), exposure.xy0)
    floor = 1e-3 * float(np.median(noise))
    snr = signal / np.sqrt(np.maximum(noise, max(floor, 1e-30)))
    return np.where(missing | (noise < floor), np.float32(0), snr)


def detect(
    snr: Float, xy0: tuple[int, int], threshold: float, grow: int, merge: int | None, polarity: str = "both"
) -> tuple[list[Footprint], Bool, Bool]:
    """Footprints of the sources in a significance image.

    Parameters
    ----------
    snr : `numpy.ndarray`, (ny, nx), float32
        Output of `significance`.
    threshold : `float`
        In standard deviations.
    grow : `int`
        Growth of each footprint, pixels in the Manhattan metric.
    merge : `int` or `None`
        Further growth with which footprints of both signs that touch become one; `None` keeps them apart.
    polarity : `str`
        ``both``, ``positive`` or ``negative``.

    Returns
    -------
    footprints : `list` [`Footprint`]
        In the order of their first pixel.
    positive, negative : `numpy.ndarray`, (ny, nx), bool
        Grown regions of either sign, for the mask.
    """
    signs = {"both": (1, -1), "positive": (1,), "negative": (-1,)}[polarity]
    regions = {sign: _grown(sign * snr >= threshold, grow) for sign in (1, -1)}
    peaks = {sign: _peaks(sign * snr, threshold) for sign in (1, -1)}
    empty = np.zeros(snr.shape, bool)
    regions.update({sign: empty for sign in (1, -1) if sign not in signs})
    if merge is None:
        footprints = [f for sign in signs for f in _footprints(regions[sign], *peaks[sign], snr, xy0)]
    else:
        both = _grown(regions[1], merge) | _grown(regions[-1], merge)
        rows, columns = (np.concatenate([peaks[sign][axis] for sign in signs]) for axis in (0, 1))
        footprints = _footprints(both, rows, columns, snr, xy0)
    return footprints, regions[1], regions[-1]


def _grown(region: Bool, pixels: int) -> Bool:
    """A region grown in the Manhattan metric."""
    return np.asarray(binary_dilation(region, iterations=pixels)) if pixels and region.any() else region


def _peaks(snr: Float, threshold: float) -> tuple[Index, Index]:
    """Rows and columns of the pixels over the threshold that no neighbour exceeds."""
    rows, columns = np.nonzero(snr >= threshold)
    value, highest = snr[rows, columns], np.ones(len(rows), bool)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, column = rows + down, columns + right
            inside = (row >= 0) & (row < snr.shape[0]) & (column >= 0) & (column < snr.shape[1])
            highest[inside] &= value[inside] >= snr[row[inside], column[inside]]
    return rows[highest], columns[highest]


def _footprints(
    region: Bool, rows: Index, columns: Index, snr: Float, xy0: tuple[int, int]
) -> list[Footprint]:
    """One footprint a connected region, with the peaks in it."""
    labels, count = label(region, structure=_NEIGHBOURS)
    boxes = find_objects(labels)
    owner = labels[rows, columns]
    footprints = []
    for number in range(1, count + 1):
        mine = owner == number
        if not mine.any():
            continue
        x, y, value = columns[mine], rows[mine], snr[rows[mine], columns[mine]].astype(float)
        order = np.lexsort((y, x, -value))
        box = boxes[number - 1]
        spans = _spans(labels[box] == number, box[1].start + xy0[0], box[0].start + xy0[1])
        footprints.append(
            Footprint(
                spans,
                (x[order] + xy0[0]).astype(np.int32),
                (y[order] + xy0[1]).astype(np.int32),
                value[order],
            )
        )
    return footprints


def _spans(inside: Bool, x0: int, y0: int) -> NDArray[np.int32]:
    """Runs of True as rows (y, first x, last x)."""
    edges = np.diff(np.pad(inside.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    y, first = np.nonzero(edges == 1)
    _, after = np.nonzero(edges == -1)
    return np.stack([y + y0, first + x0, after - 1 + x0], axis=1).astype(np.int32)
