# SPDX-License-Identifier: BSD-3-Clause
"""The noun that detection hands to measurement: the pixels and the peaks of one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw import footprints as stored
from diffrun.files.afw.exposure import Exposure


@dataclass(frozen=True)
class Footprint:
    """The pixels of one source, as horizontal spans of parent pixels, and its peaks.

    Attributes
    ----------
    spans : `numpy.ndarray`, (n, 3), int32
        One row ``y, x0, x1`` a span, both ends included, parent pixels.
    peaks_x, peaks_y : `numpy.ndarray`, (n_peaks,), int32
        Parent pixels of the peaks.
    peaks_snr : `numpy.ndarray`, (n_peaks,), float64
        Signed detection S/N of the peaks, sorted descending: the most positive first, the most negative last.
    """

    spans: NDArray[np.int32]
    peaks_x: NDArray[np.int32]
    peaks_y: NDArray[np.int32]
    peaks_snr: NDArray[np.float64]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.sum(self.spans[:, 2] - self.spans[:, 1] + 1))

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """``(x0, y0, x1, y1)`` in parent pixels, both ends included."""
        y, x0, x1 = self.spans.T
        return int(x0.min()), int(y.min()), int(x1.max()), int(y.max())

    @property
    def main_peak(self) -> int:
        """Index of the peak with the largest absolute S/N; the first of equals."""
        return int(np.argmax(np.abs(self.peaks_snr)))

    def pixels(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Parent pixel coordinates ``(x, y)`` of every pixel of the footprint, (area,) each."""
        lengths = (self.spans[:, 2] - self.spans[:, 1] + 1).astype(np.intp)
        y = np.repeat(self.spans[:, 0].astype(np.intp), lengths)
        starts = np.repeat(self.spans[:, 1] - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
        return (starts + np.arange(y.size)).astype(np.intp), y

    def indices(
        self, xy0: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Array indices ``(row, column)`` of the footprint's pixels that lie on an image.

        Parameters
        ----------
        xy0 : `tuple` [`int`, `int`]
            Parent pixel (x, y) of the image's first pixel.
        shape : `tuple` [`int`, `int`]
            (ny, nx) of the image.
        """
        x, y = self.pixels()
        column, row = x - xy0[0], y - xy0[1]
        on = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
        return row[on], column[on]

    def mask(self, xy0: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Where the footprint lies on an image with this origin and shape, (ny, nx)."""
        inside = np.zeros(shape, dtype=bool)
        inside[self.indices(xy0, shape)] = True
        return inside


def for_file(footprints: Sequence[Footprint], difference: Exposure) -> list[stored.Footprint]:
    """The footprints as the catalogue's file holds them, each peak with the difference's value there."""
    x0, y0 = difference.xy0
    return [
        stored.Footprint(f.spans, f.peaks_x, f.peaks_y, difference.image[f.peaks_y - y0, f.peaks_x - x0])
        for f in footprints
    ]


def all_pixels(
    footprints: Sequence[Footprint], xy0: tuple[int, int], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Array indices ``(row, column)`` of the pixels of many footprints, and the owner's number of each."""
    spans = np.concatenate([np.zeros((0, 3), np.int32), *(footprint.spans for footprint in footprints)])
    of_span = np.repeat(np.arange(len(footprints)), [len(footprint.spans) for footprint in footprints])
    lengths = (spans[:, 2] - spans[:, 1] + 1).astype(np.intp)
    starts = spans[:, 1] - xy0[0] - np.r_[0, np.cumsum(lengths)][:-1]
    columns = np.repeat(starts, lengths) + np.arange(lengths.sum())
    rows, owner = np.repeat(spans[:, 0].astype(np.intp) - xy0[1], lengths), np.repeat(of_span, lengths)
    on = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    return rows[on], columns[on], owner[on]
