# SPDX-License-Identifier: BSD-3-Clause
"""Which points of one list are which of another, that may be shifted, turned, scaled or mirrored.

Triangles of neighbours keep the ratios of their sides under all of that (Groth 1986, AJ 91, 1244). Each
triangle of one list that looks like one of the other proposes a map z' = a z + b of complex coordinates;
the map proposed most often, and followed by more points than chance brings together, is the one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diffrun.files.afw.kernel import chebyshev_terms

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Box = tuple[float, float, float, float]

#: Neighbours of a point that it makes triangles with, how much ratios of their sides may differ, and how
#: long the longest side may be in units of the shortest.
_NEIGHBOURS, _ALIKE, _LONGEST = 6, 0.015, 6.0
#: Cells in which maps are counted: of ln|a|, of the angle in radians, of the shift in pixels.
_CELLS = (0.03, 0.03, 6.0)
_PROPOSALS = 12
#: Pixels within which two points are one.
_NEAR = 3.0
#: How many of the first points of each list are compared: bright ones first, for one list may go deeper.
_DEPTHS = ((40, 40), (40, 160), (160, 40), (160, 160), (400, 400))
_FEWEST = 5


@dataclass(frozen=True)
class Pairs:
    """Numbers of points that are the same in the first and in the second list, (n,) each."""

    first: Index
    second: Index

    def __len__(self) -> int:
        return len(self.first)


def identified(first: Array, second: Array, box: Box) -> Pairs | None:
    """The points that two lists share, `None` if they do not show that they share any.

    Parameters
    ----------
    first, second : `numpy.ndarray`, (n, 2) and (m, 2), float64
        Places in pixels of two images, the brightest first.
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)`` of the first image, for the map between them.
    """
    for n, m in _DEPTHS:
        if (n > len(first) and m > len(second)) and (n, m) != _DEPTHS[0]:
            break
        pairs = _best(first[:n], second[:m])
        if pairs is not None:
            return _grown(first, second, pairs, box)
    return None


def _best(first: Array, second: Array) -> Pairs | None:
    """The pairs of the map that most triangles propose."""
    if min(len(first), len(second)) < _FEWEST:
        return None
    best: Pairs | None = None
    tree = cKDTree(second)
    for a, b, mirrored in _proposals(first, second):
        z = _complex(first)
        mapped = a * (np.conj(z) if mirrored else z) + b
        pairs = _nearest(np.stack([mapped.real, mapped.imag], axis=1), tree)
        if best is None or len(pairs) > len(best):
            best = pairs
    if best is None:
        return None
    area = float(np.prod(np.ptp(second, axis=0))) or 1.0
    chance = len(first) * len(second) * np.pi * _NEAR**2 / area
    return best if len(best) >= max(_FEWEST, chance + 8 * np.sqrt(chance) + _FEWEST - 1) else None


def _proposals(first: Array, second: Array) -> list[tuple[complex, complex, bool]]:
    """Maps (a, b, mirrored), the one that most triangles propose first."""
    ours, theirs = _triangles(first), _triangles(second)
    if not (len(ours.shape) and len(theirs.shape)):
        return []
    near = cKDTree(theirs.shape).query_ball_point(ours.shape, _ALIKE)
    left = np.repeat(np.arange(len(near)), [len(each) for each in near])
    right = np.array([one for each in near for one in each], np.intp)
    if not len(right):
        return []
    z, w = _complex(first)[ours.corners[left]], _complex(second)[theirs.corners[right]]
    mirrored = ours.turn[left] != theirs.turn[right]
    z = np.where(mirrored[:, None], np.conj(z), z)
    a = (w[:, 1] - w[:, 0]) / (z[:, 1] - z[:, 0])  # of the longest side
    b = w.mean(axis=1) - a * z.mean(axis=1)
    middle = _complex(first).mean()
    at = a * np.where(mirrored, np.conj(middle), middle) + b
    values = (np.log(np.abs(a)), np.angle(a), at.real, at.imag)
    cells = (_CELLS[0], _CELLS[1], _CELLS[2], _CELLS[2])
    key = np.stack([*(np.rint(v / c) for v, c in zip(values, cells, strict=True)), mirrored], axis=1)
    _, cell, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    found = []
    for best in np.argsort(-count, kind="stable")[:_PROPOSALS]:
        members = np.flatnonzero(cell.ravel() == best)
        found.append((complex(a[members].mean()), complex(b[members].mean()), bool(mirrored[members[0]])))
    return found


@dataclass(frozen=True)
class _Triangles:
    """Triangles: corners (n, 3), the first two at the ends of the longest side; ratios of sides; turn."""

    corners: Index
    shape: Array
    turn: NDArray[np.bool_]


def _triangles(points: Array) -> _Triangles:
    """The triangles that points make with their neighbours."""
    k = min(_NEIGHBOURS + 1, len(points))
    _, near = cKDTree(points).query(points, k)
    corners = np.concatenate([near[:, [0, i, j]] for i, j in combinations(range(1, k), 2)])
    corners = np.unique(np.sort(corners, axis=1), axis=0)
    opposite = np.stack(
        [_side(points, corners, 1, 2), _side(points, corners, 2, 0), _side(points, corners, 0, 1)]
    )
    order = np.argsort(opposite, axis=0)  # corners by the length of the side opposite to them
    corners = np.take_along_axis(corners.T, order, axis=0).T
    sides = np.sort(opposite, axis=0)
    good = (sides[0] > sides[2] / _LONGEST) & (sides[0] > 0)
    corners, sides = corners[good], sides[:, good]
    p, q, r = (points[corners[:, i]] for i in range(3))
    turn = (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) > (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])
    return _Triangles(corners, np.stack([sides[0] / sides[2], sides[1] / sides[2]], axis=1), turn)


def _side(points: Array, corners: Index, i: int, j: int) -> Array:
    return np.asarray(np.hypot(*(points[corners[:, i]] - points[corners[:, j]]).T))


def _complex(points: Array) -> NDArray[np.complex128]:
    return np.asarray(points[:, 0] + 1j * points[:, 1])


def _nearest(mapped: Array, tree: cKDTree) -> Pairs:
    """Each mapped point with the nearest of the other list, where that is near and not taken by a nearer."""
    distance, other = tree.query(mapped, distance_upper_bound=_NEAR)
    rows = np.flatnonzero(np.isfinite(distance))
    rows = rows[np.argsort(distance[rows], kind="stable")]
    _, once = np.unique(other[rows], return_index=True)
    rows = rows[np.sort(once)]
    return Pairs(rows, other[rows])


def _grown(first: Array, second: Array, pairs: Pairs, box: Box) -> Pairs:
    """All pairs that a polynomial of rising order through those found brings together."""
    tree = cKDTree(second)
    for order in (1, 1, 2, 3, 3):
        terms = chebyshev_terms(first[:, 0], first[:, 1], order, box)
        if len(pairs) < 2 * terms.shape[1]:
            break
        fitted = np.linalg.lstsq(terms[pairs.first], second[pairs.second], rcond=None)[0]
        better = _nearest(terms @ fitted, tree)
        if len(better) < len(pairs):
            break
        pairs = better
    return pairs
