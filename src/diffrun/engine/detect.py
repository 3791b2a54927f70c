# SPDX-License-Identifier: BSD-3-Clause
"""Footprints of the sources of both signs: significant pixels, grown and merged.

Growing, merging and the order of the peaks are those of ``lsst.meas.algorithms.SourceDetectionTask``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import regions
from diffrun.engine.footprint import Footprint
from diffrun.engine.regions import Runs, Shape

Index = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pixels:
    """Pixels of an array and the significance at each, (n,), in the order of the image.

    All that reach the threshold must be here; the others are taken to lie below it.
    """

    rows: Index
    columns: Index
    snr: Floats

    def where(self, good: NDArray[np.bool_]) -> Pixels:
        """Some of the pixels."""
        return Pixels(self.rows[good], self.columns[good], self.snr[good])


def detect(
    found: Pixels,
    shape: Shape,
    xy0: tuple[int, int],
    threshold: float,
    grow: int,
    merge: int | None,
    polarity: str = "both",
) -> tuple[list[Footprint], Runs, Runs]:
    """Footprints of the sources among significant pixels.

    Parameters
    ----------
    found : `Pixels`
    shape : `tuple` of `int`
        Of the image.
    xy0 : `tuple` of `int`
        Its first pixel.
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
    positive, negative : `numpy.ndarray`, (n, 3), int32
        Grown regions of either sign, as runs of array pixels (`diffrun.engine.regions`).
    """
    signs = {"both": (1, -1), "positive": (1,), "negative": (-1,)}[polarity]
    reached, empty = {}, np.zeros((0, 3), np.int32)
    for sign in signs:
        reached[sign] = found.where(sign * found.snr >= threshold)
    grown = {
        sign: regions.grown(regions.of_pixels(p.rows, p.columns, shape[1]), grow, shape)
        for sign, p in reached.items()
    }
    peaks = {sign: p.where(_highest(p, sign, shape[1])) for sign, p in reached.items()}
    if merge is None:
        footprints = [f for sign in signs for f in _footprints(grown[sign], peaks[sign], shape[1], xy0)]
    else:
        wider = [regions.grown(runs, merge, shape) for runs in grown.values()]
        both = regions.united(np.concatenate(wider), shape[1])
        every = Pixels(*(np.concatenate([getattr(p, n) for p in peaks.values()]) for n in _NAMES))
        footprints = _footprints(both, every, shape[1], xy0)
    return footprints, grown.get(1, empty), grown.get(-1, empty)


_NAMES = ("rows", "columns", "snr")


def _highest(pixels: Pixels, sign: int, width: int) -> NDArray[np.bool_]:
    """Whether no neighbour is farther from 0; those that are not among the pixels never are."""
    value, highest = sign * pixels.snr, np.ones(len(pixels.snr), bool)
    line = pixels.rows.astype(np.int64) * (width + 2) + pixels.columns
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            beside = line + down * (width + 2) + right
            at = np.minimum(np.searchsorted(line, beside), max(len(line) - 1, 0))
            highest &= (line[at] != beside) | (value >= value[at])
    return highest


def _footprints(runs: Runs, peaks: Pixels, width: int, xy0: tuple[int, int]) -> list[Footprint]:
    """One footprint a connected region, with the peaks in it."""
    if not len(runs):
        return []
    label = regions.components(runs, width)
    owner = label[regions.owners(runs, peaks.rows, peaks.columns, width)]
    spans = runs + np.array([xy0[1], xy0[0], xy0[0]], np.int32)
    by_label = np.argsort(label, kind="stable")
    order = np.lexsort((peaks.rows, peaks.columns, -peaks.snr, owner))
    numbers = np.arange(1, int(label.max()) + 1)
    parts = zip(
        np.split(spans[by_label], np.searchsorted(label[by_label], numbers)),
        np.split(order, np.searchsorted(owner[order], numbers)),
        strict=True,
    )
    x, y = peaks.columns + np.int32(xy0[0]), peaks.rows + np.int32(xy0[1])
    return [Footprint(own, x[p], y[p], peaks.snr[p]) for own, p in parts if len(p)]
