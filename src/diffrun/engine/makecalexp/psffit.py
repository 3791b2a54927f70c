# SPDX-License-Identifier: BSD-3-Clause
"""The PSF of an image from its own stars, varying over the field.

The model is one image per Chebyshev term of the position. Its pixels are solved for from the stars as they
fall on their own pixels, so that no star is ever resampled (the way of PSFEx, Bertin 2011, with the pixel of
the image as that of the model). What the stars do not tell is filled from an elliptical Moffat profile: each
model pixel may leave it only by a part of its own value, less for terms that vary faster. With one star the
PSF is almost that profile, with a hundred it is what the stars show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms
from diffrun.files.afw.psf import KernelPsf

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

_LANCZOS = 5
#: Part of its Moffat value by which a model pixel may differ, by order of the term, and a floor in peaks.
_FREEDOM, _FLOOR = (0.3, 0.2, 0.1), 1e-4
#: Part of a star's light that the model need not explain: brighter stars do not outweigh all others.
_SOFTENING = 0.005
#: Reduced chi squared that a star may have, round by round.
_LIMITS = (30.0, 10.0, 4.0, 2.5, 2.5)
_ITERATIONS, _TOLERANCE = 60, 1e-5
#: Stars that each order of variation needs, and the part of the field that they must span along each axis.
_NEEDED, _SPAN = (1, 8, 45), 0.55


@dataclass(frozen=True)
class Stamps:
    """Stars as they fall on their pixels.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,), float64
        Centres, pixels of the image.
    data, variance : `numpy.ndarray`, (n, side, side), float64
        The pixels around the one nearest to the centre; beyond the image 0 and not good.
    good : `numpy.ndarray`, (n, side, side), bool
        Pixels that are the star's alone.
    """

    x: Array
    y: Array
    data: Array
    variance: Array
    good: Bool

    def __len__(self) -> int:
        return len(self.x)

    @property
    def middle(self) -> tuple[Array, Array]:
        """The pixel in the middle of each stamp, x and y; it stays when a centre is improved."""
        return np.floor(self.x + 0.5), np.floor(self.y + 0.5)


@dataclass(frozen=True)
class Fit:
    """A measured PSF.

    Attributes
    ----------
    psf : `diffrun.files.afw.psf.KernelPsf`
    used : `numpy.ndarray`, (n,), bool
        Stars that it was measured from in the end.
    flux, chi2 : `numpy.ndarray`, (n,), float64
        Flux and reduced chi squared of each star under it.
    residual : `numpy.ndarray`, (n, side, side), float64
        Stars without their models, NaN where not good.
    model : `numpy.ndarray`, (n, side, side), float64
        The models.
    """

    psf: KernelPsf
    used: Bool
    flux: Array
    chi2: Array
    residual: Array
    model: Array

    @property
    def order(self) -> int:
        """Order of its variation."""
        return self.psf.kernel.order


def cut(image: NDArray[np.float32], variance: NDArray[np.float32], alone: Bool, x: Array, y: Array,
        segments: NDArray[np.int32], rows: NDArray[np.int64], half: int) -> Stamps:  # fmt: skip
    """Cut the stamps of stars.

    Parameters
    ----------
    alone : `numpy.ndarray`, (ny, nx), bool
        Pixels without a defect.
    segments : `numpy.ndarray`, (ny, nx), int32
        Which object (from 1) a pixel belongs to; those of others are not good.
    rows : `numpy.ndarray`, (n,), int64
        The stars' objects, from 0.
    """
    side = 2 * half + 1
    data, noise = np.zeros((len(x), side, side)), np.ones((len(x), side, side))
    good = np.zeros((len(x), side, side), bool)
    ny, nx = image.shape
    for n, (px, py, row) in enumerate(zip(x, y, rows, strict=True)):
        left, bottom = int(np.floor(px + 0.5)) - half, int(np.floor(py + 0.5)) - half
        j0, j1 = max(bottom, 0), min(bottom + side, ny)
        i0, i1 = max(left, 0), min(left + side, nx)
        box, inner = np.s_[j0:j1, i0:i1], np.s_[j0 - bottom : j1 - bottom, i0 - left : i1 - left]
        data[n][inner], noise[n][inner] = image[box], variance[box]
        own = segments[box]
        good[n][inner] = alone[box] & ((own == 0) | (own == row + 1))
    return Stamps(np.array(x), np.array(y), data, noise, good)


def fit(stamps: Stamps, shape: tuple[int, int], fwhm: float) -> Fit:
    """Measure the PSF.

    Parameters
    ----------
    stamps : `Stamps`
        At least one star.
    shape : `tuple` [`int`, `int`]
        (ny, nx) of the image.
    fwhm : `float`
        A first guess, pixels.
    """
    box = (-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5)
    profile = _profile(stamps, fwhm)
    components = profile[np.newaxis]
    used = np.ones(len(stamps), bool)
    now = stamps
    for limit in _LIMITS:
        order = _order(now, used, shape)
        terms = chebyshev_terms(now.x, now.y, order, box)
        padded = np.zeros((terms.shape[1], *profile.shape))
        padded[: len(components)] = components[: len(padded)]
        now, (flux, chi2, _) = _place(stamps, now, np.tensordot(terms, padded, axes=1))
        used = _well_fitted(chi2, limit)
        terms = chebyshev_terms(now.x, now.y, order, box)
        components = _solve(stamps, now, flux, terms, padded, profile, used)
    now, (flux, chi2, model) = _place(stamps, now, np.tensordot(terms, components, axes=1))
    kernel = LinearCombinationKernel(components, np.eye(len(components)), box)
    psf = KernelPsf(kernel, ((shape[1] - 1) / 2, (shape[0] - 1) / 2))
    residual = np.where(stamps.good, stamps.data - model, np.nan)
    return Fit(psf, used, flux, chi2, residual, model)


def moffat(side: int, fwhm: float, beta: float, e1: float = 0.0, e2: float = 0.0,
           dx: float = 0.0, dy: float = 0.0) -> Array:  # fmt: skip
    """An elliptical Moffat profile with sum 1, averaged over each pixel.

    Parameters
    ----------
    e1, e2 : `float`
        Distortion along the axes and between them: 0 for a round profile.
    """
    at = (np.arange(3 * side) - (3 * side - 1) / 2) / 3
    x, y = np.meshgrid(at - dx, at - dy)
    r2 = (x * x * (1 - e1) + y * y * (1 + e1) - 2 * e2 * x * y) / np.sqrt(max(1 - e1**2 - e2**2, 1e-3))
    value = (1 + 4 * (2 ** (1 / beta) - 1) * r2 / fwhm**2) ** -beta
    image = value.reshape(side, 3, side, 3).mean(axis=(1, 3))
    return np.asarray(image / image.sum())


def shift_matrices(length: int, fractions: Array) -> Array:
    """Matrices (n, length, length) that move a row of pixels by fractions of one, as afw does."""
    taps = np.arange(-_LANCZOS, length + _LANCZOS)
    at = np.arange(length)[np.newaxis, :, np.newaxis] - taps - fractions[:, np.newaxis, np.newaxis]
    weights = np.where(np.abs(at) < _LANCZOS, np.sinc(at) * np.sinc(at / _LANCZOS), 0.0)
    return np.asarray((weights / weights.sum(axis=2, keepdims=True))[:, :, _LANCZOS:-_LANCZOS])


def _order(stamps: Stamps, used: Bool, shape: tuple[int, int]) -> int:
    """How fast the PSF may vary: by the number of stars, and by how much of the field they span."""
    x, y = stamps.x[used], stamps.y[used]
    if len(x) < _NEEDED[1]:
        return 0
    spans = ((np.quantile(v, 0.95) - np.quantile(v, 0.05)) / n for v, n in ((x, shape[1]), (y, shape[0])))
    if min(spans) < _SPAN:
        return 0
    return 2 if len(x) >= _NEEDED[2] else 1


def _profile(stamps: Stamps, fwhm: float) -> Array:
    """The Moffat profile that the brightest stars have in common, by least squares on their own pixels."""
    some = np.argsort(-stamps.data.sum(axis=(1, 2)), kind="stable")[:25]
    side = stamps.data.shape[1]
    mx, my = stamps.middle
    offsets = np.stack([stamps.x - mx, stamps.y - my], axis=1)[some]
    data, weight = stamps.data[some], stamps.good[some] / np.sqrt(stamps.variance[some])

    def misfit(values: Array) -> Array:
        width, beta, e1, e2 = (float(v) for v in values)
        found = []
        for star, w, (dx, dy) in zip(data, weight, offsets, strict=True):
            model = moffat(side, width, beta, e1, e2, dx, dy)
            soft = w / np.sqrt(1 + (0.02 * w * star.max() * model / model.max()) ** 2)
            flux = np.sum(soft**2 * model * star) / max(np.sum(soft**2 * model**2), 1e-30)
            found.append((soft * (star - flux * model)).ravel())
        return np.concatenate(found)

    guess = np.array([fwhm, 3.5, 0.0, 0.0])
    bounds = ([0.5 * fwhm, 1.6, -0.6, -0.6], [2.0 * fwhm, 100.0, 0.6, 0.6])
    best = least_squares(misfit, guess, bounds=bounds, loss="soft_l1", max_nfev=30, x_scale=[1, 2, 0.1, 0.1])
    return moffat(side, *best.x)


def _matrices(stamps: Stamps, now: Stamps) -> tuple[Array, Array]:
    """The shifts along y and x that put a model onto each star's pixels."""
    mx, my = stamps.middle
    side = stamps.data.shape[1]
    return shift_matrices(side, now.y - my), shift_matrices(side, now.x - mx)


def _place(stamps: Stamps, now: Stamps, kernels: Array) -> tuple[Stamps, tuple[Array, Array, Array]]:
    """Flux and centre of each star under its model; then flux, chi squared and the model in pixels."""
    mx, my = stamps.middle
    for _ in range(2):
        down, along = _matrices(stamps, now)
        model = down @ kernels @ along.transpose(0, 2, 1)
        slope_y, slope_x = np.gradient(model, axis=(1, 2))
        flux, dx, dy = _linear(stamps, np.stack([model, -slope_x, -slope_y], axis=1))
        now = replace(
            now,
            x=np.clip(now.x + dx, mx - 0.7, mx + 0.7),
            y=np.clip(now.y + dy, my - 0.7, my + 0.7),
        )
    down, along = _matrices(stamps, now)
    model = down @ kernels @ along.transpose(0, 2, 1)
    flux = _linear(stamps, model[:, np.newaxis])[0]
    model = model * flux[:, np.newaxis, np.newaxis]
    # The core alone: the wings of a star hold more pixels than light, and would hide a bad core.
    core = stamps.good & (model > 0.02 * model.max(axis=(1, 2), keepdims=True))
    squares = (stamps.data - model) ** 2 / (stamps.variance + (2 * _SOFTENING * model) ** 2)
    chi2 = np.sum(squares * core, axis=(1, 2)) / np.maximum(core.sum(axis=(1, 2)) - 3, 1)
    return now, (flux, chi2, model)


def _linear(stamps: Stamps, terms: Array) -> tuple[Array, ...]:
    """Least squares of the terms (n, k, side, side): flux, then shifts in units of pixels."""
    n, k = terms.shape[:2]
    flat = terms.reshape(n, k, -1)
    weight = (stamps.good / stamps.variance).reshape(n, 1, -1)
    normal = (flat * weight) @ flat.transpose(0, 2, 1)
    normal += 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, np.newaxis, np.newaxis] * np.eye(k)
    right = (flat * weight) @ stamps.data.reshape(n, -1, 1)
    found = np.linalg.solve(normal, right)[:, :, 0]
    flux = found[:, 0]
    scale = np.where(np.abs(flux) > 0, flux, 1.0)
    shifts = [np.asarray(np.clip(found[:, i] / scale, -0.5, 0.5), float) for i in range(1, k)]
    return (np.asarray(flux, float), *shifts)


def _well_fitted(chi2: Array, limit: float) -> Bool:
    """Stars with a chi squared like the others'; the best one always."""
    middle = float(np.median(chi2))
    spread = 1.4826 * float(np.median(np.abs(chi2 - middle)))
    used = chi2 < max(limit, middle + 4 * spread)
    used[int(np.argmin(chi2))] = True
    return np.asarray(used)


def _solve(stamps: Stamps, now: Stamps, flux: Array, terms: Array, start: Array, profile: Array,
           used: Bool) -> Array:  # fmt: skip
    """The model's pixels by least squares on the stars' pixels, with the Moffat profile as prior.

    Conjugate gradients for (1 + P Aᵀ W A P) u = P Aᵀ W (d - A m), the model being m + P u.
    """
    down, along = (m[used] for m in _matrices(stamps, now))
    f, t = flux[used], terms[used]
    mean = np.zeros_like(start)
    mean[0] = profile
    prior = _freedom(profile, len(start))
    here = np.tensordot(t, start, axes=1)
    softened = (
        stamps.variance[used]
        + (_SOFTENING * f[:, None, None] * (down @ here @ along.transpose(0, 2, 1))) ** 2
    )
    weight = stamps.good[used] / softened

    def forward(components: Array) -> Array:
        placed = down @ np.tensordot(t, components, axes=1) @ along.transpose(0, 2, 1)
        return np.asarray(placed * f[:, None, None])

    def backward(pixels: Array) -> Array:
        gathered = down.transpose(0, 2, 1) @ (pixels * f[:, None, None]) @ along
        return np.tensordot(t.T, gathered, axes=1)

    right = prior * backward(weight * (stamps.data[used] - forward(mean)))
    u = _conjugate_gradients(lambda v: v + prior * backward(weight * forward(prior * v)), right)
    return _normalised(mean + prior * u)


def _conjugate_gradients(apply: Callable[[Array], Array], right: Array) -> Array:
    u, r = np.zeros_like(right), right.copy()
    p, rho = r.copy(), float(np.sum(right * right))
    goal = _TOLERANCE**2 * rho
    for _ in range(_ITERATIONS):
        if rho <= goal or rho == 0:
            break
        q = apply(p)
        alpha = rho / float(np.sum(p * q))
        u += alpha * p
        r -= alpha * q
        rho, before = float(np.sum(r * r)), rho
        p = r + (rho / before) * p
    return u


def _freedom(profile: Array, n_terms: int) -> Array:
    """How far each pixel of each term may be from its mean, (terms, side, side); nothing at the rim."""
    half = profile.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(x, y)
    taper = np.clip((half + 0.5 - radius) / 3.0, 0.0, 1.0)
    each = [np.maximum(_FREEDOM[min(m, 2)] * profile, _FLOOR * profile.max()) for m in range(3)]
    orders = [m for m in range(3) for _ in range(m + 1)][:n_terms]
    return np.stack([each[m] * taper for m in orders])


def _normalised(components: Array) -> Array:
    """The constant term with sum 1 and its centre in the middle, the others with sum 0."""
    half = components.shape[1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    first = components[0] / components[0].sum()
    core = np.maximum(first, 0) ** 2  # a window of the PSF's own shape
    dx, dy = -float(np.sum(core * x) / core.sum()), -float(np.sum(core * y) / core.sum())
    if max(abs(dx), abs(dy)) > 1e-4:
        side = components.shape[1]
        down, along = shift_matrices(side, np.array([dy]))[0], shift_matrices(side, np.array([dx]))[0]
        components = down @ components @ along.T
    first = components[0] / components[0].sum()
    rest = [c - c.sum() * first for c in components[1:]]
    return np.stack([first, *rest])
