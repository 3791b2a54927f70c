# SPDX-License-Identifier: BSD-3-Clause
"""The fit of the matching kernel and its variation over the field.

Each candidate gives normal equations for a constant kernel, M a = b with M = Cᵀ W C and b = Cᵀ W I, where the
columns of C are the stamp to be convolved, correlated with each basis image (Alard and Lupton 1998, ApJ 503,
325). The coefficients vary over the field as Chebyshev polynomials, but for the first, which is the kernel
sum (Alard 2000, A&AS 144, 363); the equations of all candidates add up to one system for these. A constant
background under each stamp is projected out, so that no sky gradient enters the kernel.

The image to be convolved has noise too, which adds N = Σ w v BᵢBⱼ to the expected M (v its variance, w the
weight of a pixel) and so draws the kernel sum towards 0, by some 0.3 % for fifty stars. The known N is taken
off again, as for any linear model with errors in the variables (Fuller 1987, Measurement Error Models, 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.basis import GaussianBasis
from diffrun.engine.candidates import UNUSABLE_PLANES, Candidates
from diffrun.engine.masks import grown
from diffrun.errors import NoStarsError
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]

#: Relative error of the model of a bright star (pixelisation, PSF variation within a stamp), added to the
#: noise so that the few brightest stars do not decide alone.
MODEL_ERROR = 0.005
_PIXEL_CLIP = 5.0
_CANDIDATE_CLIP = 4.0
#: Pixels of the image to be convolved that are unusable spoil their neighbours up to this distance.
_SPOILT = 3
#: Directions of the solution in which more than this part of the equations is noise are corrected no further.
_MOST_NOISE = 0.5


@dataclass(frozen=True)
class Stamp:
    """One candidate cut out of both images.

    Attributes
    ----------
    x, y : `float`
        Parent pixel of the centre.
    design : `numpy.ndarray`, (pixels, bases)
        The image to be convolved, correlated with each basis image.
    target : `numpy.ndarray`, (pixels,)
        The image to be matched.
    noise : `numpy.ndarray`, (pixels, 2)
        Variance of the target and of the convolved image's pixels.
    usable : `numpy.ndarray`, (pixels,), bool
    """

    x: float
    y: float
    design: Array
    target: Array
    noise: Array
    usable: NDArray[np.bool_]


@dataclass(frozen=True)
class Solution:
    """The matching kernel and how well it was determined.

    Attributes
    ----------
    kernel : `LinearCombinationKernel`
        Applied without a flip.
    used : `numpy.ndarray`, (n,), bool
        Which candidates were kept.
    chi2 : `numpy.ndarray`, (n,)
        Reduced chi squared of each candidate in the last fit.
    order : `int`
        Order of the spatial variation that the candidates allowed.
    condition : `float`
        Condition number of the normal equations.
    """

    kernel: LinearCombinationKernel
    used: NDArray[np.bool_]
    chi2: Array
    order: int
    condition: float


def cut(
    convolve: Exposure, target: Exposure, candidates: Candidates, basis: GaussianBasis, half: int
) -> list[Stamp]:
    """Cut stamps of half width ``half`` out of two images on one grid of parent pixels, finite everywhere."""
    reach = half + basis.size // 2
    spoilt = grown(convolve.has(*UNUSABLE_PLANES), _SPOILT)
    image, noise = _padded(convolve.image, reach), _padded(convolve.variance, reach)
    clean = _padded(~spoilt, reach)
    matched, matched_noise = _padded(target.image, reach), _padded(target.variance, reach)
    usable = _padded(~target.has(*UNUSABLE_PLANES), reach)
    stamps = []
    for x, y in zip(candidates.x, candidates.y, strict=True):
        here = _window(target, x, y, half, reach)
        there = _window(convolve, x, y, half, reach)
        design = basis.correlate(image[_window(convolve, x, y, reach, reach)].astype(float))
        stamps.append(
            Stamp(
                float(x),
                float(y),
                design.reshape(len(design), -1).T,
                matched[here].astype(float).ravel(),
                np.stack([matched_noise[here].ravel(), noise[there].ravel()], axis=1).astype(float),
                (usable[here] & clean[there]).ravel(),
            )
        )
    return stamps


def _padded(plane: NDArray[Any], reach: int) -> NDArray[Any]:
    return np.pad(plane, reach, mode="constant")


def _window(exposure: Exposure, x: float, y: float, half: int, pad: int) -> tuple[slice, slice]:
    """The window of half width ``half`` about a parent pixel in a plane padded by ``pad``."""
    column, row = int(np.rint(x)) - exposure.xy0[0] + pad, int(np.rint(y)) - exposure.xy0[1] + pad
    return slice(row - half, row + half + 1), slice(column - half, column + half + 1)


def solve(
    stamps: list[Stamp],
    basis: GaussianBasis,
    box: Box,
    order: int,
    iterations: int = 3,
    fit_background: bool = True,
) -> Solution:
    """Fit the kernel; drop pixels and candidates that do not follow it, and fit again.

    Parameters
    ----------
    stamps : `list` [`Stamp`]
    basis : `GaussianBasis`
    box : `tuple` of `float`
        Field of the Chebyshev polynomials, parent pixels.
    order : `int`
        Wanted order of the spatial variation; lowered until there are at least two candidates a term.
    iterations : `int`
        Rounds of clipping.
    fit_background : `bool`
        Project out a constant background under each stamp.

    Raises
    ------
    NoStarsError
        When no candidate is left.
    """
    used = np.ones(len(stamps), bool)
    good = [stamp.usable.copy() for stamp in stamps]
    power = 1.0 / (4 * np.pi)
    for iteration in range(iterations + 1):
        fitted_order = affordable_order(int(used.sum()), order)
        kernel, condition = _fit(stamps, used, good, basis, box, fitted_order, power, fit_background)
        chi2, residuals = _residuals(stamps, good, kernel, basis, power, fit_background)
        power = float((kernel.at((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) ** 2).sum())
        if iteration == iterations:
            break
        good = [stamp.usable & (np.abs(r) < _PIXEL_CLIP) for stamp, r in zip(stamps, residuals, strict=True)]
        kept = _clip(chi2, used, np.array([g.mean() for g in good]))
        if not kept.any():
            raise NoStarsError(
                f"none of {len(stamps)} kernel candidates follows a common kernel",
                "the two images may be misaligned, or most stars variable or masked",
            )
        used = kept
    return Solution(kernel, used, chi2, fitted_order, condition)


def affordable_order(candidates: int, wanted: int) -> int:
    """The highest order with at least two candidates for each of its terms."""
    order = wanted
    while order > 0 and candidates < (order + 1) * (order + 2):
        order -= 1
    return order


def _clip(chi2: Array, used: NDArray[np.bool_], fraction: Array) -> NDArray[np.bool_]:
    """Candidates whose chi squared lies not far above the others', with most of their pixels in use."""
    enough = fraction > 0.5
    sample = chi2[used & enough]
    if not len(sample):
        return np.zeros_like(used)
    middle = np.median(sample)
    scatter = max(1.4826 * np.median(np.abs(sample - middle)), 0.05)
    return np.asarray(enough & (chi2 < middle + _CANDIDATE_CLIP * scatter))


def _weights(stamp: Stamp, good: NDArray[np.bool_], power: float) -> Array:
    signal = np.clip(stamp.target - np.median(stamp.target), 0, None)
    variance = stamp.noise[:, 0] + power * stamp.noise[:, 1] + (MODEL_ERROR * signal) ** 2
    return np.where(good & (variance > 0), 1.0 / np.where(variance > 0, variance, 1.0), 0.0)


def _project(columns: Array, weights: Array) -> Array:
    """Columns less their weighted mean: what is left when a constant background is free."""
    total = weights.sum()
    return columns - (weights @ columns) / total if total > 0 else columns


def _fit(
    stamps: list[Stamp],
    used: NDArray[np.bool_],
    good: list[NDArray[np.bool_]],
    basis: GaussianBasis,
    box: Box,
    order: int,
    power: float,
    fit_background: bool,
) -> tuple[LinearCombinationKernel, float]:
    """One linear solution with the candidates and pixels in use."""
    n_bases, n_terms = len(basis.mixing), (order + 1) * (order + 2) // 2
    size = 1 + (n_bases - 1) * n_terms
    matrix, noise, vector = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    flat = basis.images.reshape(n_bases, -1)
    gram = flat @ flat.T
    for stamp, mask, use in zip(stamps, good, used, strict=True):
        if not use:
            continue
        weights = _weights(stamp, mask, power)
        design, target = stamp.design, stamp.target
        if fit_background:
            design, target = _project(design, weights), _project(target, weights)
        expand = _expansion(chebyshev_terms(stamp.x, stamp.y, order, box), n_bases)
        matrix += expand.T @ ((design * weights[:, None]).T @ design) @ expand
        noise += expand.T @ (float(weights @ stamp.noise[:, 1]) * gram) @ expand
        vector += expand.T @ (design.T @ (weights * target))
    solution, condition = _debiased(matrix, noise, vector)
    coefficients = np.zeros((n_bases, n_terms))
    coefficients[0, 0] = solution[0]
    coefficients[1:] = solution[1:].reshape(n_bases - 1, n_terms)
    return LinearCombinationKernel(basis.images, coefficients, box), condition


def _expansion(terms: Array, n_bases: int) -> Array:
    """What each unknown adds to each basis coefficient at one place, (bases, unknowns)."""
    n_terms = len(terms)
    expand = np.zeros((n_bases, 1 + (n_bases - 1) * n_terms))
    expand[0, 0] = 1.0
    for i in range(1, n_bases):
        expand[i, 1 + (i - 1) * n_terms : 1 + i * n_terms] = terms
    return expand


def _debiased(matrix: Array, noise: Array, vector: Array) -> tuple[Array, float]:
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


def _residuals(
    stamps: list[Stamp],
    good: list[NDArray[np.bool_]],
    kernel: LinearCombinationKernel,
    basis: GaussianBasis,
    power: float,
    fit_background: bool,
) -> tuple[Array, list[Array]]:
    """Reduced chi squared of each stamp, and the residual of each pixel in units of its sigma."""
    chi2, residuals = np.empty(len(stamps)), []
    for i, (stamp, mask) in enumerate(zip(stamps, good, strict=True)):
        weights = _weights(stamp, mask, power)
        difference = stamp.target - stamp.design @ kernel.weights(stamp.x, stamp.y)
        if fit_background:
            difference = _project(difference, weights)
        everywhere = _weights(stamp, stamp.usable, power)
        chi2[i] = (weights * difference**2).sum() / max(int(mask.sum()) - 1, 1)
        residuals.append(difference * np.sqrt(everywhere))
    return chi2, residuals
