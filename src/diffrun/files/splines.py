# SPDX-License-Identifier: BSD-3-Clause
"""Piecewise cubics through points, with SciPy's formulas: SciPy's own take longer to import than to use."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A cubic between each two knots.

    Attributes
    ----------
    x : `numpy.ndarray`, (n,)
    c : `numpy.ndarray`, (4, n - 1, ...)
        Coefficients in powers of the distance from the knot before, the highest first.
    """

    x: Array
    c: Array

    def at(self, places: NDArray[Any]) -> Array:
        """Values at ascending places, (..., places); beyond the ends a parabola goes on.

        One small matrix product a piece.
        """
        pieces = self.c.shape[1]
        piece = np.clip(np.searchsorted(self.x, places, side="right") - 1, 0, pieces - 1)
        ends = np.clip(places, self.x[0], self.x[-1])
        t, s = ends - self.x[piece], places - ends
        powers = np.stack([t**3 + 3 * t**2 * s + 3 * t * s**2, (t + s) ** 2, t + s, np.ones(len(places))])
        out = np.empty((*self.c.shape[2:], len(places)))
        borders = np.searchsorted(piece, np.arange(pieces + 1))
        for i, (first, last) in enumerate(pairwise(borders)):
            out[..., first:last] = self.c[:, i].T @ powers[:, first:last]
        return out


def linear(x: Array, y: Array) -> Curve:
    """Straight lines through two points (x, y[i]) or more; y is (n, ...)."""
    slope = _slopes(x, y)
    none = np.zeros(slope.shape)
    return Curve(x, np.stack([none, none, slope, y[:-1]]))


def natural(x: Array, y: Array) -> Curve:
    """The cubic spline through three points or more that is straight at its ends."""
    return _spline(x, y, (2.0, 1.0), 3 * _slopes(x, y)[[0, -1]])


def not_a_knot(x: Array, y: Array) -> Curve:
    """The cubic spline through two points or more without a knot at the second and the last but one.

    Through four or fewer it is one polynomial.
    """
    if len(x) == 2:
        return linear(x, y)
    h, slope = np.diff(x), _slopes(x, y)
    if len(x) == 3:
        return _spline(x, y, (1.0, 1.0), 2 * slope)
    sides = []
    for (one, two), (first, second) in ((h[:2], slope[:2]), (h[:-3:-1], slope[:-3:-1])):
        both = one + two
        sides.append((two, both, ((one + 2 * both) * two * first + one**2 * second) / both))
    (a, b, left), (c, d, right) = sides
    return _spline(x, y, (a, b), np.stack([left, right]), (c, d))


def akima(x: Array, y: Array) -> Curve:
    """A cubic through three points or more that overshoots little (Akima 1970, J. ACM 17, 589)."""
    m = np.empty((len(x) + 3, *y.shape[1:]))
    m[2:-2] = _slopes(x, y)
    for out, near, next_ in ((1, 2, 3), (0, 1, 2), (-2, -3, -4), (-1, -2, -3)):
        m[out] = 2.0 * m[near] - m[next_]
    slopes = 0.5 * (m[3:] + m[:-3])
    dm = np.abs(np.diff(m, axis=0))
    total = dm[2:] + dm[:-2]
    known = total > 1e-9 * total.max()
    part = dm[:-2][known] / total[known]
    slopes[known] = m[1:-2][known] + part * (m[2:-1][known] - m[1:-2][known])
    return _hermite(x, y, slopes)


def _slopes(x: Array, y: Array) -> Array:
    return np.asarray(np.diff(y, axis=0) / _down(np.diff(x), y))


def _down(values: Array, y: Array) -> Array:
    """One value a point, shaped to stand beside y."""
    return values.reshape(-1, *[1] * (y.ndim - 1))


def _spline(
    x: Array, y: Array, first: tuple[float, float], ends: Array, last: tuple[float, float] | None = None
) -> Curve:
    """The twice differentiable curve, with a row of the equations for the slopes at either end."""
    h, slope = np.diff(x), _slopes(x, y)
    matrix, right = np.zeros((len(x), len(x))), np.empty(y.shape)
    for i in range(1, len(x) - 1):
        matrix[i, i - 1 : i + 2] = h[i], 2 * (h[i - 1] + h[i]), h[i - 1]
        right[i] = 3 * (h[i] * slope[i - 1] + h[i - 1] * slope[i])
    matrix[0, :2], matrix[-1, :-3:-1] = first, last or first
    right[0], right[-1] = ends
    slopes = np.linalg.solve(matrix, right.reshape(len(x), -1))
    return _hermite(x, y, np.asarray(slopes).reshape(y.shape))


def _hermite(x: Array, y: Array, slopes: Array) -> Curve:
    """The cubics with these slopes at the points."""
    h, slope = _down(np.diff(x), y), _slopes(x, y)
    t = (slopes[:-1] + slopes[1:] - 2 * slope) / h
    return Curve(x, np.stack([t / h, (slope - slopes[:-1]) / h - t, slopes[:-1], y[:-1]]))
