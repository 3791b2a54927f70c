# SPDX-License-Identifier: BSD-3-Clause
"""Sources that overlap, as columns of one least squares problem: which belong together, what each adds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from diffrun.engine.smoothpsf import full_convolution
from diffrun.engine.stamps import Floats, cut, kernel_images, nearest_pixel, shifted, shifted_with_slopes
from diffrun.files.afw.exposure import Exposure

Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
#: Sources that are fitted at a time, where no more are neighbours of each other.
_CHUNK = 256
#: Two PSFs overlap that share this part of their power, Σ m₁ m₂ / √(Σ m₁² Σ m₂²): 2.2 FWHM of a Gaussian.
_OVERLAP = 1e-3


@dataclass(frozen=True)
class Design:
    """What N sources of flux 1 add to the usable pixels under their PSFs.

    Attributes
    ----------
    profile : `scipy.sparse.csc_matrix`, (pixels, N)
    slopes : `tuple` of the same
        Its derivatives with respect to x and y of the sources; empty if they were not asked for.
    pixels : `numpy.ndarray`, (pixels,), int
        Their numbers in the image, row by row.
    edge : `numpy.ndarray`, (N,), bool
        Whose PSF is cut off by the edge of the image.
    """

    profile: csc_matrix
    slopes: tuple[csc_matrix, ...]
    pixels: NDArray[np.int64]
    edge: Bools


def design(exposure: Exposure, x: Floats, y: Floats, slopes: bool = False) -> Design:
    """The columns of sources at parent positions."""
    nx = exposure.shape[1]
    count = 3 if slopes else 1
    values: list[list[Floats]] = [[np.empty(0)] for _ in range(count)]
    pixels, counts = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
    edge = np.zeros(len(x), bool)
    for first in range(0, len(x), _CHUNK):
        some = np.s_[first : first + _CHUNK]
        column, row = nearest_pixel(x[some]), nearest_pixel(y[some])
        kernels = kernel_images(exposure.psf, x[some], y[some])
        half = kernels.shape[-1] // 2
        stamps = cut(exposure, column, row, half)
        where = x[some] - column, y[some] - row, half
        parts = shifted_with_slopes(kernels, *where) if slopes else (shifted(kernels, *where),)
        steps = np.arange(-half, half + 1)
        rows = (row - exposure.xy0[1])[:, None, None] + steps[:, None]
        columns = (column - exposure.xy0[0])[:, None, None] + steps
        place = rows.astype(np.int64) * nx + columns
        for own, part in zip(values, parts, strict=True):
            own.append(part[stamps.good])
        pixels.append(place[stamps.good])
        counts.append(stamps.good.sum(axis=(1, 2)))
        edge[some] = ~stamps.inside.all(axis=(1, 2))
    used, place = np.unique(np.concatenate(pixels), return_inverse=True)
    ends, shape = np.cumsum(np.concatenate(counts)), (len(used), len(x))
    profile, *rest = (csc_matrix((np.concatenate(own), place, ends), shape=shape) for own in values)
    return Design(profile, tuple(rest), used, edge)


def reach(exposure: Exposure) -> float:
    """Distance in pixels beyond which two PSFs do not overlap, by the PSF in the middle of the field."""
    stamp = exposure.psf.kernel_image(*exposure.psf.average_position)
    overlap = full_convolution(stamp, stamp[::-1, ::-1])
    rows, columns = np.nonzero(overlap > _OVERLAP / 2 * overlap.max())
    middle = (len(overlap) - 1) / 2
    return float(np.hypot(rows - middle, columns - middle).max())


def batches(x: Floats, y: Floats, distance: float) -> Iterator[Ints]:
    """Some hundred sources at a time, those within a distance of each other never apart."""
    if not len(x):
        return
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(distance, output_type="ndarray")
    order, starts = _linked(pairs.T, len(x))
    cuts = [*starts.tolist(), len(x)]
    first = 0
    for cut_, after in itertools.pairwise(cuts):
        if after - first > _CHUNK and cut_ > first:
            yield order[first:cut_]
            first = cut_
    yield order[first:]


def sizes(x: Floats, y: Floats, distance: float) -> Ints:
    """How many sources are linked with each, itself among them, by steps of no more than a distance."""
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(distance, output_type="ndarray")
    order, starts = _linked(pairs.T, len(x))
    lengths = np.diff([*starts, len(x)])
    found = np.empty(len(x), np.intp)
    found[order] = np.repeat(lengths, lengths)
    return found


def groups(normal: csc_matrix) -> list[Ints]:
    """Sources whose PSFs overlap, by the rows of each group of two or more.

    Parameters
    ----------
    normal : `scipy.sparse.csc_matrix`, (N, N)
        Σ m₁ m₂ of each pair.
    """
    pairs = normal.tocoo()
    root = np.sqrt(normal.diagonal())
    linked = (pairs.row != pairs.col) & (np.abs(pairs.data) > _OVERLAP * root[pairs.row] * root[pairs.col])
    order, starts = _linked((pairs.row[linked], pairs.col[linked]), len(root))
    return [group for group in np.split(order, starts[1:]) if len(group) > 1]


def _linked(pairs: Any, count: int) -> tuple[Ints, Ints]:
    """Numbers below ``count``, those linked by pairs together; and where each group of them begins."""
    links = csc_matrix((np.ones(len(pairs[0])), pairs), shape=(count, count))
    _, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    return order, np.flatnonzero(np.diff(label[order], prepend=-1))
