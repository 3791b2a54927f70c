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

#: Relative error of the model of a star (PSF variation within a stamp), added to the noise so that the very
#: brightest stars do not decide alone.
_MODEL_ERROR = 0.005
#: Mean square S/N a pixel from which on a stamp tells how well the PSFs match.
_TELLING = 4.0
_PIXEL_CLIP = 5.0
#: A candidate with another flux than the common one by so many of its errors, and this part, is left out.
_FLUX_CLIP, _FLUX_TOLERANCE = 4.0, 0.05
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

    Weights come from a model of the signal, never from the target itself: a pixel that happens to be high
    would count less, and draw the kernel sum down.
    """

    x: float
    y: float
    design: Array
    target: Array
    noise: Array
    usable: NDArray[np.bool_]

    def model(self, kernel: LinearCombinationKernel) -> Array:
        """The matched stamp, (pixels,)."""
        return np.asarray(self.design @ kernel.weights(self.x, self.y))

    def first_guess(self) -> Array:
        """The stamp convolved with the first basis image, scaled to the target, (pixels,)."""
        shape = self.design[:, 0] - np.median(self.design[:, 0])
        power = float(shape[self.usable] @ shape[self.usable])
        scale = float(shape[self.usable] @ self.target[self.usable]) / power if power > 0 else 0.0
        return np.asarray(scale * shape)


@dataclass(frozen=True)
class Trial:
    """A candidate as the latest kernel sees it.

    Attributes
    ----------
    weights : `numpy.ndarray`, (pixels,)
        Inverse variance of the pixels in use, 0 of the others.
    signal : `numpy.ndarray`, (pixels,)
        Model of the star on the target.
    doubt : `float`
        Factor by which its residuals exceed its noise: what its variance is multiplied with.
    used : `bool`
        Whether it has the common flux, and most of its pixels.
    """

    stamp: Stamp
    weights: Array
    signal: Array
    doubt: float = 1.0
    used: bool = True

    def residual(self, kernel: LinearCombinationKernel, fit_background: bool) -> Array:
        """What the kernel leaves of the target, (pixels,)."""
        difference = self.stamp.target - self.stamp.model(kernel)
        return _project(difference, self.weights) if fit_background else difference

    def chi2(self, residual: Array) -> float:
        """Reduced chi squared of the pixels in use."""
        return float((self.weights * residual**2).sum() / max(int(np.count_nonzero(self.weights)) - 1, 1))

    def revised(self, kernel: LinearCombinationKernel, residual: Array, power: float) -> Trial:
        """The candidate with the pixels, the signal and the doubt that a kernel gives it."""
        model = self.stamp.model(kernel)
        signal = model - np.median(model)
        doubt = max(self.chi2(residual), 1.0)
        sigmas = residual * np.sqrt(_weights(self.stamp, self.stamp.usable, signal, power) / doubt)
        good = self.stamp.usable & (np.abs(sigmas) < _PIXEL_CLIP)
        used = bool(good.mean() > 0.5) and self._has_common_flux(signal, residual, doubt, power)
        return Trial(self.stamp, _weights(self.stamp, good, signal, power), signal, doubt, used)

    def _has_common_flux(self, signal: Array, residual: Array, doubt: float, power: float) -> bool:
        hidden = power * float(
            self.weights @ self.stamp.noise[:, 1]
        )  # the model's own noise, in both products
        strength = float(self.weights @ signal**2) - hidden
        if strength <= 0:
            return False
        excess = (float(self.weights @ (signal * residual)) + hidden) / strength
        return bool(abs(excess) < max(_FLUX_CLIP * np.sqrt(doubt / strength), _FLUX_TOLERANCE))


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
    mismatch : `float`
        Residuals at bright stars beyond their noise, in units of the signal: how well the PSFs match.
    """

    kernel: LinearCombinationKernel
    used: NDArray[np.bool_]
    chi2: Array
    order: int
    condition: float
    mismatch: float


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

    A candidate whose residuals are larger than its noise, for its motion or its place on the detector, is
    weighed down by its chi squared and not dropped: the bright stars know the kernel sum best. One whose
    flux is not the common one is dropped.

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
    power = 1.0 / (4 * np.pi)
    trials = [_first_trial(stamp, power) for stamp in stamps]
    for iteration in range(iterations + 1):
        kept = [trial for trial in trials if trial.used]
        if not kept:
            raise NoStarsError(
                f"none of {len(stamps)} kernel candidates follows a common kernel",
                "the two images may be misaligned, or most stars variable or masked",
            )
        fitted_order = affordable_order(len(kept), order)
        kernel, condition = _fit(kept, basis, box, fitted_order, fit_background)
        residuals = [trial.residual(kernel, fit_background) for trial in trials]
        if iteration < iterations:
            power = _power(kernel)
            trials = [t.revised(kernel, r, power) for t, r in zip(trials, residuals, strict=True)]
    return Solution(
        kernel=kernel,
        used=np.array([trial.used for trial in trials]),
        chi2=np.array([t.chi2(r) for t, r in zip(trials, residuals, strict=True)]),
        order=fitted_order,
        condition=condition,
        mismatch=_mismatch(trials, residuals),
    )


def _first_trial(stamp: Stamp, power: float) -> Trial:
    signal = stamp.first_guess()
    return Trial(stamp, _weights(stamp, stamp.usable, signal, power), signal)


def _power(kernel: LinearCombinationKernel) -> float:
    """Σ K² at the centre of the field."""
    min_x, min_y, max_x, max_y = kernel.box
    return float((kernel.at((min_x + max_x) / 2, (min_y + max_y) / 2) ** 2).sum())


def affordable_order(candidates: int, wanted: int) -> int:
    """The highest order with at least two candidates for each of its terms."""
    order = wanted
    while order > 0 and candidates < (order + 1) * (order + 2):
        order -= 1
    return order


def _weights(stamp: Stamp, good: NDArray[np.bool_], signal: Array, power: float) -> Array:
    """Inverse variance of each pixel in use; ``power`` is Σ K², what convolution leaves of a variance."""
    variance = stamp.noise[:, 0] + power * stamp.noise[:, 1] + (_MODEL_ERROR * signal) ** 2
    return np.where(good & (variance > 0), 1.0 / np.where(variance > 0, variance, 1.0), 0.0)


def _project(columns: Array, weights: Array) -> Array:
    """Columns less their weighted mean: what is left when a constant background is free."""
    total = weights.sum()
    return columns - (weights @ columns) / total if total > 0 else columns


def _fit(
    trials: list[Trial], basis: GaussianBasis, box: Box, order: int, fit_background: bool
) -> tuple[LinearCombinationKernel, float]:
    """One linear solution, and the condition number of its equations."""
    n_bases, n_terms = len(basis.mixing), (order + 1) * (order + 2) // 2
    size = 1 + (n_bases - 1) * n_terms
    matrix, noise, vector = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    flat = basis.images.reshape(n_bases, -1)
    gram = flat @ flat.T
    for trial in trials:
        stamp, w = trial.stamp, trial.weights / trial.doubt
        design, target = stamp.design, stamp.target
        if fit_background:
            design, target = _project(design, w), _project(target, w)
        expand = _expansion(chebyshev_terms(stamp.x, stamp.y, order, box), n_bases)
        matrix += expand.T @ ((design * w[:, None]).T @ design) @ expand
        noise += expand.T @ (float(w @ stamp.noise[:, 1]) * gram) @ expand
        vector += expand.T @ (design.T @ (w * target))
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


def _mismatch(trials: list[Trial], residuals: list[Array]) -> float:
    """Median over the bright candidates of what is left beyond the noise, in units of the signal."""
    excesses = []
    for trial, residual in zip(trials, residuals, strict=True):
        count, strength = int(np.count_nonzero(trial.weights)), float(trial.weights @ trial.signal**2)
        if strength > _TELLING * count:
            excesses.append((float(trial.weights @ residual**2) - count) / strength)
    return float(np.sqrt(max(np.median(excesses), 0.0))) if excesses else 0.0
