# SPDX-License-Identifier: BSD-3-Clause
"""Positions of many sources at once, as offsets from the middle pixel of their stamps.

All functions take stamps of positive sources: those of negative ones are turned over before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.stamps import Floats, Stamps, shifted_with_slopes

Bools = NDArray[np.bool_]

MAX_ITERATIONS = 15
#: A step shorter than this many pixels ends the iteration: 1/1000 of the error at S/N 1000.
TOLERANCE = 1e-5
#: The longest step, pixels: the PSF's slopes say nothing about what lies farther away.
MAX_STEP = 0.5
#: Ratio of the smallest to the largest curvature below which a maximum is called a ridge.
MIN_CURVATURE_RATIO = 0.05


@dataclass(frozen=True)
class Centroids:
    """Offsets from the middle pixel, their errors (pixels) and why some failed, (N,) each.

    Where ``reset`` is set the fit was given up and the offset is 0: the peak.
    """

    dx: Floats
    dy: Floats
    dx_sigma: Floats
    dy_sigma: Floats
    singular: Bools
    ridge: Bools
    not_maximum: Bools
    reset: Bools

    @property
    def fitted(self) -> Bools:
        """Where the position is that of the fit."""
        return ~self.reset


def fit_psf(stamps: Stamps, kernels: Floats, max_shift: float) -> Centroids:
    """Where the PSF fits best, by Gauss-Newton steps from the middle pixel.

    Minimises Σ (d − f m(x₀, y₀))² over flux and position with equal weights for all good pixels: the maximum
    of the matched filter, hence unbiased whatever the pixel phase and whatever the source adds to its own
    variance. The errors are (JᵀJ)⁻¹ JᵀVJ (JᵀJ)⁻¹ with the variance plane as V.

    Parameters
    ----------
    stamps : `Stamps`, of N sources
    kernels : `numpy.ndarray`, (N, s, s)
        The PSF of each source, centred on the middle pixel.
    max_shift : `float`
        A source that moves farther than this from its peak (pixels) is reset to it.
    """
    n = len(stamps.image)
    delta, flux = np.zeros((n, 2)), np.zeros(n)
    singular, converged = np.zeros(n, bool), np.zeros(n, bool)
    active = np.arange(n)
    for _ in range(MAX_ITERATIONS):
        if active.size == 0:
            break
        step, flux[active], bad = _step(stamps[active], kernels[active], delta[active])
        delta[active] += step
        singular[active] |= bad
        moved = np.abs(step).max(axis=1)
        converged[active] = (moved < TOLERANCE) & ~bad
        lost = bad | (np.hypot(*delta[active].T) > max_shift)
        active = active[(moved >= TOLERANCE) & ~lost]
    not_maximum = ~singular & ~(flux > 0)
    # A slow but bounded walk has reached what the noise allows; only a lost one is given up.
    reset = singular | not_maximum | ~(np.hypot(*delta.T) <= max_shift)
    delta[reset] = 0.0
    sigma, ridge = _errors(stamps, kernels, delta, np.where(reset, np.nan, flux))
    return Centroids(
        dx=delta[:, 0],
        dy=delta[:, 1],
        dx_sigma=sigma[:, 0],
        dy_sigma=sigma[:, 1],
        singular=singular,
        ridge=ridge & ~reset,
        not_maximum=not_maximum,
        reset=reset,
    )


def _jacobian(stamps: Stamps, kernels: Floats, delta: Floats) -> Floats:
    """PSF and slopes on the good pixels, (N, 3, pixels)."""
    parts = shifted_with_slopes(kernels, delta[:, 0], delta[:, 1], stamps.half)
    return np.stack([np.where(stamps.good, part, 0.0).reshape(len(delta), -1) for part in parts], axis=1)


def _step(stamps: Stamps, kernels: Floats, delta: Floats) -> tuple[Floats, Floats, Bools]:
    """One linearised solution of d = f m + (f δx) ∂m/∂x + (f δy) ∂m/∂y: (δ, f, singular)."""
    jacobian = _jacobian(stamps, kernels, delta)
    normal = jacobian @ jacobian.transpose(0, 2, 1)
    right = (jacobian @ stamps.image.reshape(len(delta), -1, 1))[:, :, 0]
    bad = _is_singular(normal)
    solution = np.linalg.solve(np.where(bad[:, None, None], np.eye(3), normal), right[:, :, None])[:, :, 0]
    flux = solution[:, 0]
    # A flux near nothing would send the position anywhere: the noise of the matched filter bounds it below.
    floor = np.maximum(np.abs(flux), 1e-12)[:, None]
    step = np.clip(np.where(flux[:, None] > 0, solution[:, 1:] / floor, 0.0), -MAX_STEP, MAX_STEP)
    step[bad] = 0.0
    return np.asarray(step), np.asarray(flux), bad


def _is_singular(normal: Floats) -> Bools:
    """Whether the scaled 3 x 3 normal matrices have no inverse worth having."""
    scale = np.sqrt(np.einsum("nii->ni", normal))
    blank = ~(scale > 0).all(axis=1)
    scale = np.where(scale > 0, scale, 1.0)
    correlation = normal / (scale[:, :, None] * scale[:, None, :])
    return np.asarray(blank | (np.linalg.det(correlation) < 1e-6))


def _errors(stamps: Stamps, kernels: Floats, delta: Floats, flux: Floats) -> tuple[Floats, Bools]:
    """Errors of the position, (N, 2), NaN where there is no fit, and where one curvature almost vanishes."""
    jacobian = _jacobian(stamps, kernels, delta)
    normal = jacobian @ jacobian.transpose(0, 2, 1)
    bad = _is_singular(normal)
    inverse = np.linalg.inv(np.where(bad[:, None, None], np.eye(3), normal))
    noise = (jacobian * stamps.variance.reshape(len(delta), 1, -1)) @ jacobian.transpose(0, 2, 1)
    covariance = inverse @ noise @ inverse
    sigma = np.sqrt(np.maximum(np.einsum("nii->ni", covariance)[:, 1:], 0.0)) / flux[:, None]
    sigma[bad] = np.nan
    curvature = np.linalg.eigvalsh(normal[:, 1:, 1:])
    return sigma, bad | (curvature[:, 0] < MIN_CURVATURE_RATIO * curvature[:, 1])


@dataclass(frozen=True)
class Moments:
    """First moments: offsets and errors (pixels), and where there are no counts to weigh with, (N,) each."""

    dx: Floats
    dy: Floats
    dx_sigma: Floats
    dy_sigma: Floats
    no_counts: Bools


def first_moment(stamps: Stamps) -> Moments:
    """The first moment of the 3 x 3 pixels in the middle; NaN where their sum is not positive.

    Errors are σ² = Σ (dx − x̄)² var / (Σ I)².
    """
    core = stamps.trimmed(1)
    total = core.image.sum(axis=(1, 2))
    no_counts = ~(total > 0)
    safe = np.where(no_counts, np.nan, total)
    step = core.offsets
    dx = (core.image * step).sum(axis=(1, 2)) / safe
    dy = (core.image * step[:, None]).sum(axis=(1, 2)) / safe
    away_x = (step - dx[:, None, None]) ** 2
    away_y = (step[:, None] - dy[:, None, None]) ** 2
    dx_sigma = np.sqrt((away_x * core.variance).sum(axis=(1, 2))) / safe
    dy_sigma = np.sqrt((away_y * core.variance).sum(axis=(1, 2))) / safe
    return Moments(dx, dy, dx_sigma, dy_sigma, no_counts)


def gaussian(stamps: Stamps, sigma: float, max_shift: float) -> tuple[Floats, Floats, Bools]:
    """The centre of a round Gaussian of fixed width that fits best: (dx, dy, failed).

    Iterates x ← x + 2 Σ w I (X − x) / Σ w I, the fixed point of a Gaussian weight w as wide as the source.
    A failed one is at the middle pixel.
    """
    n = len(stamps.image)
    delta, lost = np.zeros((n, 2)), np.zeros(n, bool)
    steps = stamps.offsets
    for _ in range(MAX_ITERATIONS):
        x, y = steps - delta[:, :1], steps - delta[:, 1:]
        weighted = stamps.image * np.exp(-0.5 * (y[:, :, None] ** 2 + x[:, None, :] ** 2) / sigma**2)
        total = weighted.sum(axis=(1, 2))
        lost |= ~(total > 0)
        safe = np.where(lost, 1.0, total)
        along_x, along_y = (weighted.sum(axis=1) * x).sum(axis=1), (weighted.sum(axis=2) * y).sum(axis=1)
        move = np.stack([along_x, along_y], axis=1)
        move = np.where(lost[:, None], 0.0, np.clip(2 * move / safe[:, None], -MAX_STEP, MAX_STEP))
        delta += move
        if np.abs(move).max(initial=0.0) < TOLERANCE:
            break
    lost |= ~(np.hypot(*delta.T) <= max_shift)
    delta[lost] = 0.0
    return delta[:, 0], delta[:, 1], lost
