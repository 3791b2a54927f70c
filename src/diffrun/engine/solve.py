# SPDX-License-Identifier: BSD-3-Clause
"""The fit of the matching kernel and its variation over the field.

The coefficients of the basis vary over the field as Chebyshev polynomials, those of the first, which is the
kernel sum, with an order of their own: 0 where the photometric scale is the same everywhere. Both orders are
the lowest that predict stars left out of the fit as well as any (`diffrun.engine.orders`). The equations are
those of `diffrun.engine.equations`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from diffrun.engine.basis import GaussianBasis
from diffrun.engine.equations import Equations, equations, over_field
from diffrun.engine.kernelstamps import Float, Stamps
from diffrun.engine.orders import Orders, affordable_order, choose_orders
from diffrun.engine.robust import weighted_median
from diffrun.engine.smoothpsf import centre
from diffrun.errors import NoStarsError
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Box = tuple[float, float, float, float]

#: Relative error of the model of a star (PSF variation within a stamp), added to the noise so that the very
#: brightest stars do not decide alone.
_MODEL_ERROR = 0.005
#: Square S/N of the pixels of a star from which on it tells how well the PSFs match.
_TELLING = 100.0
_PIXEL_CLIP = 5.0
#: Side of the boxes that are clipped as pixels are, and the part of a star's light by which they may be off:
#: a change beside a star is in no pixel alone, and would be fitted by its kernel.
_BOX, _BOX_TOLERANCE = 5, 0.3
#: A candidate with another flux than the common one by so many of its errors, and this part, is left out.
_FLUX_CLIP, _FLUX_TOLERANCE = 4.0, 0.05


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
    order, sum_order : `int`
        Order of the variation over the field, of the kernel and of its sum.
    condition : `float`
        Condition number of the normal equations.
    mismatch : `float`
        Residuals at bright stars beyond their noise, in units of the signal: how well the PSFs match.
    """

    kernel: LinearCombinationKernel
    used: Bool
    chi2: Array
    order: int
    sum_order: int
    condition: float
    mismatch: float


@dataclass(frozen=True)
class Trial:
    """The n candidates as the latest kernel sees them.

    Attributes
    ----------
    weights : `numpy.ndarray`, (n, pixels), float32
        Inverse variance of the pixels in use, 0 of the others. It comes from a model of the signal, never
        from the target itself: a pixel that happens to be high would count less, and draw the sum down.
    signal : `numpy.ndarray`, (n, pixels), float32
        Model of the stars on the target.
    doubt : `numpy.ndarray`, (n,)
        Factor by which residuals exceed the noise: what the variance of each is multiplied with.
    used : `numpy.ndarray`, (n,), bool
        Which have the common flux, and most of their pixels.
    """

    weights: Float
    signal: Float
    doubt: Array
    used: Bool


def solve(
    stamps: Stamps,
    basis: GaussianBasis,
    box: Box,
    order: int,
    iterations: int = 3,
    fit_background: bool = True,
    literal: bool = False,
) -> Solution:
    """Fit the kernel; drop pixels and candidates that do not follow it, and fit again.

    A candidate whose residuals are larger than its noise, for its motion or its place on the detector, is
    weighed down by its chi squared and not dropped: the bright stars know the kernel sum best. One whose
    flux is not the common one is dropped.

    Parameters
    ----------
    stamps : `Stamps`
    basis : `GaussianBasis`
    box : `tuple` of `float`
        Field of the Chebyshev polynomials, parent pixels.
    order : `int`
        Highest order of the spatial variation.
    iterations : `int`
        Rounds of clipping.
    fit_background : `bool`
        Project out a constant background under each stamp.
    literal : `bool`
        Take ``order`` as it is, if there are stars enough, and a kernel sum that is the same everywhere.

    Raises
    ------
    NoStarsError
        When no candidate is left.
    """
    trial = _first(stamps, 1.0 / (4 * np.pi))
    made = equations(stamps, trial.weights, fit_background)
    for iteration in range(iterations + 1):
        if not trial.used.any():
            raise NoStarsError(
                f"none of {len(stamps)} kernel candidates follows a common kernel",
                "the two images may be misaligned, or most stars variable or masked",
            )
        share = trial.used / trial.doubt
        orders = (
            Orders(affordable_order(int(trial.used.sum()), order), 0)
            if literal
            else choose_orders(made, share, stamps, basis, box, order)
        )
        kernel, condition = _fit(made, share, stamps, basis, box, orders)
        model = stamps.models(kernel)
        residual = _residuals(stamps, model, made.weights, fit_background)
        if iteration < iterations:
            trial = _revised(stamps, model, residual, made.weights, _power(kernel))
            made = equations(stamps, trial.weights, fit_background, made)
    return Solution(
        kernel=kernel,
        used=trial.used,
        chi2=_chi2(made.weights, residual),
        order=orders.kernel,
        sum_order=orders.sum,
        condition=condition,
        mismatch=_mismatch(made.weights, trial.signal, residual),
    )


def _first(stamps: Stamps, power: float) -> Trial:
    signal, n = stamps.first_guess(), len(stamps)
    used = np.asarray(stamps.usable.any(axis=1))
    return Trial(_weights(stamps, stamps.usable, signal, power), signal, np.ones(n), used)


def _power(kernel: LinearCombinationKernel) -> float:
    """Σ K² at the centre of the field."""
    return float((kernel.at(*centre(kernel.box)) ** 2).sum())


def _weights(stamps: Stamps, good: Bool, signal: Float, power: float) -> Float:
    """Inverse variance of each pixel in use; ``power`` is Σ K², what convolution leaves of a variance."""
    variance = stamps.target_variance + np.float32(power) * stamps.convolved_variance
    variance += (np.float32(_MODEL_ERROR) * signal) ** 2
    return np.divide(np.float32(1), variance, out=np.zeros_like(variance), where=good & (variance > 0))


def _fit(
    made: Equations, share: Array, stamps: Stamps, basis: GaussianBasis, box: Box, orders: Orders
) -> tuple[LinearCombinationKernel, float]:
    """One linear solution, and the condition number of its equations."""
    terms = chebyshev_terms(stamps.x, stamps.y, max(orders.kernel, orders.sum), box)
    field = over_field(made, share, terms, basis.gram)
    coefficients, condition = field.solution(orders.free(basis, terms.shape[1]))
    return LinearCombinationKernel(basis.images, coefficients, box), condition


def _residuals(stamps: Stamps, model: Float, weights: Float, fit_background: bool) -> Float:
    """What a model leaves of the targets, (n, pixels)."""
    residual = stamps.target - model
    if fit_background:
        total = weights.sum(axis=1, dtype=float)
        mean = _sums(weights, residual) / np.where(total > 0, total, 1.0)
        residual -= mean.astype(np.float32)[:, None]
    return residual


def _sums(*factors: Float) -> Array:
    """Sums of products over the pixels of each stamp, (n,)."""
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return np.asarray(product.sum(axis=1, dtype=float))


def _chi2(weights: Float, residual: Float) -> Array:
    """Reduced chi squared of the pixels in use, (n,)."""
    count = np.count_nonzero(weights, axis=1)
    return np.asarray(_sums(weights, residual, residual) / np.maximum(count - 1, 1))


def _revised(stamps: Stamps, model: Float, residual: Float, weights: Float, power: float) -> Trial:
    """The candidates with the pixels, the signal and the doubt that a model gives them."""
    signal = model - np.median(model, axis=1, keepdims=True)
    doubt = np.maximum(_chi2(weights, residual), 1.0)
    limit = (_PIXEL_CLIP * np.sqrt(doubt)).astype(np.float32)[:, None]
    full = _weights(stamps, stamps.usable, signal, power)
    good = stamps.usable & (np.abs(residual) * np.sqrt(full) < limit)
    good &= _without_neighbours(stamps, full, residual, signal, limit)
    used = _common_flux(stamps, signal, residual, weights, doubt, power)
    used &= np.count_nonzero(good, axis=1) > good.shape[1] / 2
    return Trial(np.where(good, full, np.float32(0)), signal, doubt, used)


def _without_neighbours(stamps: Stamps, weights: Float, residual: Float, signal: Float, limit: Float) -> Bool:
    """Pixels in no box whose residual exceeds so many of its errors and a part of its star's light."""
    sums = (
        uniform_filter(stamps.squares(plane), (0, _BOX, _BOX), mode="constant") * np.float32(_BOX**2)
        for plane in (weights * residual, weights, weights * np.abs(signal))
    )
    off, known, light = sums
    bound = limit[:, :, None] * np.sqrt(np.maximum(known, 0)) + np.float32(_BOX_TOLERANCE) * light
    changed = maximum_filter(np.abs(off) > bound, (0, _BOX, _BOX))
    return np.asarray(~changed[:, stamps.disc])


def _common_flux(
    stamps: Stamps, signal: Float, residual: Float, weights: Float, doubt: Array, power: float
) -> Bool:
    """Which candidates have the flux that the kernel gives them, (n,)."""
    hidden = power * _sums(weights, stamps.convolved_variance)  # the model's own noise, in both products
    strength = _sums(weights, signal, signal) - hidden
    known = strength > 0
    strength = np.where(known, strength, 1.0)
    excess = (_sums(weights, signal, residual) + hidden) / strength
    limit = np.maximum(_FLUX_CLIP * np.sqrt(doubt / strength), _FLUX_TOLERANCE)
    return np.asarray(known & (np.abs(excess) < limit))


def _mismatch(weights: Float, signal: Float, residual: Float) -> float:
    """What the model of a bright star lacks, in units of its signal.

    Each pixel of a star has the square residual σ² + ε² signal², which gives ε² with the pixels weighed by
    their squared S/N; of the stars' values the median, weighed by what each tells.
    """
    power = weights * signal**2
    known = _sums(power, power)
    telling = known > _TELLING * _sums(power)
    if not telling.any():
        return 0.0
    excess = (_sums(power, weights, residual, residual) - _sums(power))[telling] / known[telling]
    middle = weighted_median(excess, np.sqrt(known[telling]))
    return float(np.sqrt(max(middle + _MODEL_ERROR**2, 0.0)))
