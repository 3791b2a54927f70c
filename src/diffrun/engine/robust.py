# SPDX-License-Identifier: BSD-3-Clause
"""What most of some values say, whatever the others are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw.kernel import chebyshev_terms

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]

#: A combination of terms that the places tell less well than this, relative to the best, is left out.
_TOLD = 1e-5


def weighted_median(values: Array, weights: Array) -> float:
    """The value up to which the values have half of all weight."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2)])


@dataclass(frozen=True)
class PolynomialFit:
    """A Chebyshev polynomial of the place through values of which some are wrong.

    Its order is the one of least robust cost, each coefficient costing ln n (Schwarz 1978, Ann. Stat. 6,
    461); the weights are Tukey's biweight, ever narrower.

    Attributes
    ----------
    highest : `int`
        Highest order.
    per_term : `int`
        Values for each term that a higher order needs.
    reaches : `tuple` of `float`
        Beyond this, or 4 sigma where that is more, a value counts nothing; one for each round of the fit.
    most : `float`
        Largest square of a deviation, in sigma, that counts in the cost.
    """

    highest: int
    per_term: int
    reaches: tuple[float, ...]
    most: float

    def through(
        self, x: Array, y: Array, values: Array, sigma: Array, box: Box, start: Array | None = None
    ) -> tuple[Array, int]:
        """The coefficients, (terms, k), and their order.

        Parameters
        ----------
        x, y : `numpy.ndarray`, (n,)
            Places.
        values : `numpy.ndarray`, (n, k)
            Vectors of k components, of which one wrong makes all wrong.
        sigma : `numpy.ndarray`, (n,)
            Standard error of each component.
        box : `tuple` of `float`
            ``(min_x, min_y, max_x, max_y)``: the field of the polynomials.
        start : `numpy.ndarray`, (k,), optional
            About what the first round looks; without it, about a fit to all.
        """
        best, chosen, least = np.zeros((1, values.shape[1])), 0, np.inf
        for order in range(self.highest + 1):
            terms = chebyshev_terms(x, y, order, box)
            if order and len(x) < self.per_term * terms.shape[1]:
                break
            fitted = self._fitted(terms, values, sigma, start)
            left = _lengths(values - terms @ fitted) / sigma
            cost = float(np.minimum(left**2, self.most).sum() + fitted.size * np.log(len(x)))
            if cost < least:
                best, chosen, least = fitted, order, cost
        return best, chosen

    def _fitted(self, terms: Array, values: Array, sigma: Array, start: Array | None) -> Array:
        """The coefficients of some terms, round by round."""
        model = terms @ _weighted_fit(terms, values, 1 / sigma) if start is None else start
        for reach in self.reaches:
            pull = _lengths(values - model) / np.maximum(4 * sigma, reach)
            fitted = _weighted_fit(terms, values, np.where(pull < 1, 1 - pull**2, 0.0) / sigma)
            model = terms @ fitted
        return fitted


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.hypot.reduce(np.abs(vectors), axis=1))


def _weighted_fit(terms: Array, values: Array, root: Array) -> Array:
    """Least squares with the roots of the weights, (n,)."""
    root = root[:, None]
    return np.asarray(np.linalg.lstsq(root * terms, root * values, rcond=_TOLD)[0], float)
