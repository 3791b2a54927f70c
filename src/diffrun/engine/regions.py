# SPDX-License-Identifier: BSD-3-Clause
"""Regions of an image as runs of pixels, so that what is small in a large image costs little.

Runs are rows ``y, x0, x1`` of array pixels, both ends included, disjoint and in the order of the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int32]
Index = NDArray[np.int64]
Shape = tuple[int, int]


def _keys(runs: Runs, width: int) -> tuple[Index, Index]:
    """First and last pixels on one line, on which rows are too far apart to touch."""
    row = runs[:, 0].astype(np.int64) * (width + 2)
    return row + runs[:, 1], row + runs[:, 2]


def united(runs: Runs, width: int) -> Runs:
    """Runs in any order, joined where they overlap or touch in a row."""
    first, last = _keys(runs, width)
    order = np.argsort(first, kind="stable")
    first, reached = first[order], np.maximum.accumulate(last[order])
    new = np.ones(len(first), bool)
    new[1:] = first[1:] > reached[:-1] + 1
    ends = np.r_[np.nonzero(new)[0][1:] - 1, len(first) - 1] if len(first) else np.zeros(0, int)
    y, x0 = np.divmod(first[new], width + 2)
    return np.stack([y, x0, reached[ends] - y * (width + 2)], axis=1).astype(np.int32)


def of_pixels(rows: NDArray[np.int32], columns: NDArray[np.int32], width: int) -> Runs:
    """The runs of single pixels."""
    return united(np.stack([rows, columns, columns], axis=1).astype(np.int32), width)


def grown(runs: Runs, reach: int, shape: Shape) -> Runs:
    """Runs grown by a number of pixels in the Manhattan metric, cut at the border of the image."""
    step = np.arange(-reach, reach + 1)
    wide = reach - np.abs(step)
    y = runs[:, :1] + step
    x0, x1 = np.maximum(runs[:, 1:2] - wide, 0), np.minimum(runs[:, 2:] + wide, shape[1] - 1)
    inside = (y >= 0) & (y < shape[0])
    return united(np.stack([y[inside], x0[inside], x1[inside]], axis=1).astype(np.int32), shape[1])


def components(runs: Runs, width: int) -> NDArray[np.intp]:
    """Number of the connected region, corners included, of each run; numbered by their first pixels."""
    first, last = _keys(runs, width)
    low = np.searchsorted(last, first + (width + 1))
    high = np.searchsorted(first, last + (width + 3), "right")
    count = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(runs)), count)
    below = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    root, before = np.arange(len(runs)), np.arange(0)  # each run's first run, as far as is known
    while not np.array_equal(root, before):
        before, least = root, root.copy()
        np.minimum.at(least, root[above], root[below])
        np.minimum.at(least, root[below], root[above])
        root = least[least[root]]
    return np.unique(root, return_inverse=True)[1]


def owners(runs: Runs, rows: NDArray[np.int32], columns: NDArray[np.int32], width: int) -> NDArray[np.intp]:
    """The run in which each pixel lies; every pixel must lie in one."""
    first, _ = _keys(runs, width)
    return np.searchsorted(first, rows.astype(np.int64) * (width + 2) + columns, "right") - 1


def pixels(runs: Runs, width: int) -> Index:
    """Flat indices of all pixels of an image of this width."""
    length = (runs[:, 2] - runs[:, 1] + 1).astype(np.int64)
    start = runs[:, 0].astype(np.int64) * width + runs[:, 1]
    return np.repeat(start - np.cumsum(length) + length, length) + np.arange(length.sum())
