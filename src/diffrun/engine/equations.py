# SPDX-License-Identifier: BSD-3-Clause
"""Normal equations of the kernel, candidate by candidate and put together over the field.

Each candidate gives M a = b for a constant kernel, with M = Cᵀ W C and b = Cᵀ W I, where the columns of C are
the stamp to be convolved, correlated with each basis image (Alard and Lupton 1998, ApJ 503, 325). Where the
coefficients are polynomials of the position, Σ M ⊗ T Tᵀ and Σ b ⊗ T are the equations of the field, with T
the terms at each candidate (Alard 2000, A&AS 144, 363). So one pass over the pixels serves any order.

The image to be convolved has noise too, which adds N = Σ w v BᵢBⱼ to the expected M (v its variance, w the
weight of a pixel) and so draws the kernel sum towards 0, by some 0.3 % for fifty stars. The known N is taken
off again, as for any linear model with errors in the variables (Fuller 1987, Measurement Error Models, 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from diffrun.engine.kernelstamps import Float, Stamps

Array = NDArray[np.float64]

#: Directions of the solution in which more than this part of the equations is noise are corrected no further.
_MOST_NOISE = 0.5
#: Added to the diagonal of equations that are solved without a look at their condition, as a part of it.
_RIDGE = 1e-9
#: A change of all weights of a stamp by less than this part is none.
_SAME_WEIGHTS = 0.02


@dataclass(frozen=True)
class Equations:
    """Normal equations of n candidates for kernels of their own.

    Attributes
    ----------
    weights : `numpy.ndarray`, (n, pixels), float32
        With which they were made.
    matrix : `numpy.ndarray`, (n, bases, bases)
    vector : `numpy.ndarray`, (n, bases)
    square : `numpy.ndarray`, (n,)
        Weighted square of the target.
    noise : `numpy.ndarray`, (n,)
        Σ w v, which times the Gram matrix of the basis is the noise in ``matrix``.
    """

    weights: Float
    matrix: Array
    vector: Array
    square: Array
    noise: Array

    def deviances(self, coefficients: Array, which: NDArray[np.intp]) -> Array:
        """Weighted squares of the residuals of some candidates with kernels of their own (n, bases), (n,)."""
        cross = np.einsum("ib,ib->i", coefficients, self.vector[which])
        square = np.einsum(
            "ib,ib->i", np.matmul(coefficients[:, None], self.matrix[which])[:, 0], coefficients
        )
        return np.asarray(self.square[which] - 2 * cross + square)


def equations(
    stamps: Stamps, weights: Float, fit_background: bool, before: Equations | None = None
) -> Equations:
    """The normal equations with given weights; those of ``before`` where the weights are nearly the same.

    Parameters
    ----------
    stamps : `Stamps`
    weights : `numpy.ndarray`, (n, pixels), float32
    fit_background : `bool`
        Project out a constant background under each stamp, so that no sky gradient enters the kernel.
    before : `Equations`, optional
        Given up: its arrays become those of the result.
    """
    n, bases = stamps.design.shape[:2]
    if before is None:
        made = Equations(
            weights.copy(), np.empty((n, bases, bases)), np.empty((n, bases)), np.empty(n), np.empty(n)
        )
        changed = np.ones(n, bool)
    else:
        made = before
        limit = _SAME_WEIGHTS * before.weights.max(axis=1)
        changed = np.abs(weights - before.weights).max(axis=1) > limit
    for i in np.flatnonzero(changed):
        made.weights[i] = weights[i]
        made.matrix[i], made.vector[i], made.square[i] = _normal(
            stamps.design[i], stamps.target[i], weights[i], fit_background
        )
        made.noise[i] = float(weights[i].astype(float) @ stamps.convolved_variance[i])
    return made


def _normal(design: Float, target: Float, weights: Float, fit_background: bool) -> tuple[Array, Array, float]:
    """Matrix, vector and square of one candidate."""
    w, columns, values = weights.astype(float), design.astype(float), target.astype(float)
    weighted = columns * w
    matrix, vector, square = weighted @ columns.T, weighted @ values, float(w @ values**2)
    total = w.sum()
    if fit_background and total > 0:
        sums, value = weighted.sum(axis=1), float(w @ values)
        matrix -= np.outer(sums, sums) / total
        vector -= sums * value / total
        square -= value**2 / total
    return matrix, vector, square


@dataclass(frozen=True)
class Field:
    """The equations of all candidates for coefficients (bases, terms).

    Attributes
    ----------
    matrix : `numpy.ndarray`, (bases, terms, bases, terms)
    vector : `numpy.ndarray`, (bases, terms)
    hidden : `numpy.ndarray`, (terms, terms)
        What the noise in ``matrix`` is in units of ``gram``.
    gram : `numpy.ndarray`, (bases, bases)
    """

    matrix: Array
    vector: Array
    hidden: Array
    gram: Array

    @property
    def noise(self) -> Array:
        """The noise in ``matrix``, of its shape."""
        return np.asarray(self.gram[:, None, :, None] * self.hidden[None, :, None, :])

    def without(self, part: Field) -> Field:
        """The equations less those of a part of the candidates."""
        vector, hidden = self.vector - part.vector, self.hidden - part.hidden
        return Field(self.matrix - part.matrix, vector, hidden, self.gram)

    def solution(self, free: NDArray[np.bool_]) -> tuple[Array, float]:
        """The coefficients (bases, terms), 0 where not ``free``, and the equations' condition number."""
        at = np.flatnonzero(free.ravel())
        matrix, noise = (_square(m, at) for m in (self.matrix, self.noise))
        values, condition = debiased(matrix, noise, self.vector.ravel()[at])
        return _filled(values, at, free.shape), condition

    def plain_solution(self, free: NDArray[np.bool_]) -> Array:
        """The coefficients with their noise left in: ten times as fast, and as good for a comparison."""
        at = np.flatnonzero(free.ravel())
        matrix = _square(self.matrix, at)
        matrix[np.diag_indices(len(at))] *= 1 + _RIDGE
        values = scipy.linalg.solve(matrix, self.vector.ravel()[at], assume_a="pos", check_finite=False)
        return _filled(values, at, free.shape)

    def error(self, free: NDArray[np.bool_]) -> float:
        """Standard error of the first coefficient, the kernel sum, if the weights are inverse variances."""
        at = np.flatnonzero(free.ravel())
        matrix, first = _square(self.matrix, at), np.zeros(len(at))
        matrix[np.diag_indices(len(at))] *= 1 + _RIDGE
        first[0] = 1.0
        return float(np.sqrt(scipy.linalg.solve(matrix, first, assume_a="pos", check_finite=False)[0]))


def _square(matrix: Array, at: NDArray[np.intp]) -> Array:
    """The rows and columns of some unknowns."""
    size = matrix.shape[0] * matrix.shape[1]
    return matrix.reshape(size, size)[np.ix_(at, at)]


def _filled(values: Array, at: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
    """Coefficients with 0 for what was not an unknown."""
    coefficients = np.zeros(shape)
    coefficients.ravel()[at] = values
    return coefficients


def over_field(made: Equations, share: Array, terms: Array, gram: Array) -> Field:
    """The equations of all candidates, each times its share.

    Parameters
    ----------
    share : `numpy.ndarray`, (n,)
    terms : `numpy.ndarray`, (n, terms)
        The polynomials at each candidate.
    gram : `numpy.ndarray`, (bases, bases)
        Products of the basis images.
    """
    n_bases, n_terms = made.vector.shape[1], terms.shape[1]
    shared = terms * share[:, None]
    pairs = (shared[:, :, None] * terms[:, None, :]).reshape(len(terms), -1)
    matrix = made.matrix.reshape(len(terms), -1).T @ pairs
    hidden = (made.noise @ pairs).reshape(n_terms, n_terms)
    shape = (n_bases, n_bases, n_terms, n_terms)
    return Field(matrix.reshape(shape).transpose(0, 2, 1, 3), made.vector.T @ shared, hidden, gram)


def debiased(matrix: Array, noise: Array, vector: Array) -> tuple[Array, float]:
    """Solve (matrix - noise) a = vector, with the correction bounded where there is little but noise.

    Returns
    -------
    solution : `numpy.ndarray`, (n,)
    condition : `float`
        Condition number of the scaled matrix.
    """
    scale = 1.0 / np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    values, vectors = np.linalg.eigh(matrix * scale[:, None] * scale[None, :])
    keep = values > 1e-10 * values[-1]
    whiten = scale[:, None] * vectors[:, keep] / np.sqrt(values[keep])
    part, directions = np.linalg.eigh(whiten.T @ noise @ whiten)
    gain = 1.0 / (1.0 - np.clip(part, 0.0, _MOST_NOISE))
    solution = whiten @ (directions @ (gain * (directions.T @ (whiten.T @ vector))))
    return solution, float(values[-1] / max(values[0], 1e-300))
