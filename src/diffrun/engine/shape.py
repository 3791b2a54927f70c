# SPDX-License-Identifier: BSD-3-Clause
"""Adaptive moments of many sources at once.

The moments of the elliptical Gaussian that fits a source best: the weight is given the moments that it
measures until both agree (Bernstein and Jarvis 2002, AJ 123, 583; Hirata and Seljak 2003, MNRAS 343, 459).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.stamps import Floats, Stamps

Bools = NDArray[np.bool_]

MAX_ITERATIONS = 100
#: Relative change of the moments, and change of the position in pixels, at which the iteration ends.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Shapes:
    """Moments of N sources.

    Attributes
    ----------
    xx, yy, xy : `numpy.ndarray`, (N,)
        Moments, pixel².
    dx, dy : `numpy.ndarray`, (N,)
        Offsets of the centre from the middle pixel.
    flux : `numpy.ndarray`, (N,)
        Of the Gaussian.
    covariance : `numpy.ndarray`, (N, 4, 4)
        Of flux, xx, yy, xy.
    unweighted, unweighted_bad, shift, too_long : `numpy.ndarray`, (N,), bool
        The weight had no moments and unweighted ones are given; even those failed; the centre wandered off;
        no end was reached.
    """

    xx: Floats
    yy: Floats
    xy: Floats
    dx: Floats
    dy: Floats
    flux: Floats
    covariance: Floats
    unweighted: Bools
    unweighted_bad: Bools
    shift: Bools
    too_long: Bools

    @property
    def failed(self) -> Bools:
        """Where the moments are not those of a fit."""
        return self.unweighted | self.unweighted_bad | self.shift | self.too_long


def adaptive_moments(stamps: Stamps, start: tuple[Floats, Floats], sigma: float, max_shift: float) -> Shapes:
    """Adaptive moments of positive sources.

    Parameters
    ----------
    stamps : `Stamps`, of N sources
    start : `tuple` of `numpy.ndarray`, (N,)
        Offsets (dx, dy) from the middle pixel to begin at.
    sigma : `float`
        Width of the round Gaussian to begin with, pixels.
    max_shift : `float`
        How far the centre may move from its start, pixels.
    """
    n = len(stamps.image)
    state = np.tile([sigma**2, sigma**2, 0.0, 0.0, 0.0], (n, 1))
    state[:, 3], state[:, 4] = start
    origin = state[:, 3:].copy()
    done, lost, shift = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    active = np.arange(n)
    largest = (stamps.half / 2.0) ** 2
    for _ in range(MAX_ITERATIONS):
        if active.size == 0:
            break
        old = state[active]
        new, bad = _iterate(stamps[active], old, largest)
        away = ~bad & (np.hypot(*(new[:, 3:] - origin[active]).T) > max_shift)
        keep = ~bad & ~away
        state[active[keep]] = new[keep]
        scale = (old[:, 0] + old[:, 1])[:, None] * [0.5, 0.5, 0.5, 0, 0] + [0, 0, 0, 1, 1]
        still = (np.abs(new - old) < TOLERANCE * scale).all(axis=1)
        lost[active], shift[active], done[active] = bad, away, still & keep
        active = active[keep & ~still]
    return _finish(stamps, state, origin, lost, shift, ~done & ~lost & ~shift)


def _grids(stamps: Stamps, state: Floats) -> tuple[Floats, Floats]:
    """Pixel offsets from the centres, (N, 1, s) and (N, s, 1)."""
    return (stamps.offsets - state[:, 3:4])[:, None, :], (stamps.offsets - state[:, 4:5])[:, :, None]


def _weight(stamps: Stamps, state: Floats) -> Floats:
    """exp(−½ rᵀ M⁻¹ r) on the good pixels, (N, s, s)."""
    x, y = _grids(stamps, state)
    xx, yy, xy = (state[:, k, None, None] for k in range(3))
    radius2 = (yy * x**2 - 2 * xy * x * y + xx * y**2) / (xx * yy - xy**2)
    return np.where(stamps.good, np.exp(-0.5 * np.minimum(radius2, 80.0)), 0.0)


def _weighted(stamps: Stamps, state: Floats, weight: Floats) -> Floats:
    """Σ w I, and the first and second moments about the centre: columns sum, x, y, xx, yy, xy."""
    x, y = _grids(stamps, state)
    pixels = weight * stamps.image
    x, y = x[:, 0, :], y[:, :, 0]
    along_x, along_y = pixels.sum(axis=1), pixels.sum(axis=2)
    total = along_x.sum(axis=1)
    mixed = (np.einsum("nij,nj->ni", pixels, x) * y).sum(axis=1)
    first = [(along_x * x).sum(axis=1), (along_y * y).sum(axis=1)]
    second = [(along_x * x**2).sum(axis=1), (along_y * y**2).sum(axis=1), mixed]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([total, *(s / total for s in first + second)], axis=1)


def _iterate(stamps: Stamps, state: Floats, largest: float) -> tuple[Floats, Bools]:
    """The next weight: its moments are those that a Gaussian source would need to be measured so.

    A Gaussian of moments M under a weight W has weighted moments (M⁻¹ + W⁻¹)⁻¹, and half its offset is seen
    when M = W.
    """
    measured = _weighted(stamps, state, _weight(stamps, state))
    total, mx, my, xx, yy, xy = measured.T
    xx, yy, xy = xx - mx**2, yy - my**2, xy - mx * my
    det = xx * yy - xy**2
    bad = ~(total > 0) | ~(det > 0) | ~(xx > 0) | ~(yy > 0)
    new = state.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        w_det = state[:, 0] * state[:, 1] - state[:, 2] ** 2
        p = yy / det - state[:, 1] / w_det
        q = xx / det - state[:, 0] / w_det
        r = -xy / det + state[:, 2] / w_det
        p_det = p * q - r**2
        new[:, 0], new[:, 1], new[:, 2] = q / p_det, p / p_det, -r / p_det
    bad |= ~(p_det > 0) | ~(p > 0) | ~(np.maximum(new[:, 0], new[:, 1]) < largest)
    step = np.clip(2 * np.stack([mx, my], axis=1), -1.0, 1.0)
    new[:, 3:] += step
    new[bad] = state[bad]
    return new, bad


def _finish(stamps: Stamps, state: Floats, origin: Floats, lost: Bools, shift: Bools, long: Bools) -> Shapes:
    """Unweighted moments where the weight was lost, then flux and errors."""
    unweighted, hopeless = _unweighted(stamps, origin)
    state = np.where((lost | shift)[:, None], unweighted, state)
    no_moments = (lost | shift) & hopeless
    state[no_moments, :3] = np.nan
    weight = np.nan_to_num(_weight(stamps, state))
    norm = np.einsum("nij,nij->n", weight, weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = np.einsum("nij,nij->n", weight, stamps.image) / norm
        noise = np.einsum("nij,nij,nij->n", weight, weight, stamps.variance) / norm
    area = 2 * np.pi * np.sqrt(state[:, 0] * state[:, 1] - state[:, 2] ** 2)
    covariance = _covariance(state, peak, noise)
    xx, yy, xy, dx, dy = state.T
    return Shapes(
        xx, yy, xy, dx, dy, peak * area, covariance,
        unweighted=lost & ~no_moments, unweighted_bad=no_moments, shift=shift, too_long=long,
    )  # fmt: skip


def _unweighted(stamps: Stamps, origin: Floats) -> tuple[Floats, Bools]:
    """Moments of the positive pixels, and where they are of no use."""
    positive = Stamps(np.maximum(stamps.image, 0.0), stamps.variance, stamps.good, stamps.inside)
    state = np.concatenate([np.ones((len(origin), 3)), origin], axis=1)
    total, mx, my, xx, yy, xy = _weighted(positive, state, np.ones_like(positive.image)).T
    state[:, 0], state[:, 1], state[:, 2] = xx - mx**2, yy - my**2, xy - mx * my
    return state, ~(total > 0) | ~(state[:, 0] * state[:, 1] - state[:, 2] ** 2 > 0)


def _covariance(state: Floats, peak: Floats, noise: Floats) -> Floats:
    """Covariance of flux, xx, yy, xy of a Gaussian fitted to pixels of equal variance, (N, 4, 4).

    With G = I₀ exp(−½ rᵀPr) and P = M⁻¹: ∂G/∂M_ab = ½ s_ab (Pr)_a (Pr)_b G, s = 1 for xx and yy, 2 for xy.
    Under G² the vector Pr is Gaussian with covariance P/2 and the norm π √|M|, which gives the Fisher matrix;
    its inverse is turned from I₀ to the flux 2 π I₀ √|M|.
    """
    fisher = np.zeros((len(state), 4, 4))
    xx, yy, xy = state[:, 0], state[:, 1], state[:, 2]
    det = xx * yy - xy**2
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.stack([np.stack([yy, -xy], 1), np.stack([-xy, xx], 1)], 1) / det[:, None, None]
        norm = np.pi * np.sqrt(det) / noise
    pairs = [(0, 0, 1.0), (1, 1, 1.0), (0, 1, 2.0)]
    fisher[:, 0, 0] = norm
    for i, (a, b, s) in enumerate(pairs, start=1):
        fisher[:, 0, i] = fisher[:, i, 0] = norm * peak * s * p[:, a, b] / 4
        for j, (c, d, u) in enumerate(pairs, start=1):
            fourth = p[:, a, b] * p[:, c, d] + p[:, a, c] * p[:, b, d] + p[:, a, d] * p[:, b, c]
            fisher[:, i, j] = norm * peak**2 * s * u * fourth / 16
    bad = ~np.isfinite(fisher).all(axis=(1, 2)) | ~(peak != 0)
    fisher[bad] = np.eye(4)
    inverse = np.linalg.inv(fisher)
    inverse[bad] = np.nan
    root = np.sqrt(np.where(bad, 1.0, det))
    turn = np.tile(np.eye(4), (len(state), 1, 1))
    turn[:, 0, 0] = 2 * np.pi * root
    for k, slope in enumerate((yy, xx, -2 * xy), start=1):
        turn[:, 0, k] = np.pi * peak * slope / root
    return np.asarray(turn @ inverse @ turn.transpose(0, 2, 1))
