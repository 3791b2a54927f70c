# SPDX-License-Identifier: BSD-3-Clause
"""Least squares fit of two point sources, one positive and one negative, to one or more images.

The model of an image is ``p f₊ m(x₊, y₊) + n f₋ m(x₋, y₋) + plane`` with the image's own PSF m and the signs
(p, n) with which it shows the lobes: (1, −1) in a difference, (1, 0) in the science image and (0, 1) in the
template. Every pixel counts with its variance, unusable ones not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.stamps import UNUSABLE, Floats, lanczos, nearest_pixel, usable
from diffrun.files.afw.exposure import Exposure

MAX_ITERATIONS = 40
#: Columns of the parameters: positions (x₊, y₊, x₋, y₋), then fluxes (f₊, f₋), then planes.
N_LOBES = 6
#: Neither image is taken to be freer of noise than this part of the difference's variance.
MIN_SHARE = 1e-3


@dataclass(frozen=True)
class Box:
    """A rectangle of parent pixels, ``x1`` and ``y1`` excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    def grown(self, pixels: int, exposure: Exposure) -> Box:
        """Larger by some pixels on each side, as far as the image reaches."""
        (left, bottom), (ny, nx) = exposure.xy0, exposure.shape
        return Box(
            max(self.x0 - pixels, left),
            max(self.y0 - pixels, bottom),
            min(self.x1 + pixels, left + nx),
            min(self.y1 + pixels, bottom + ny),
        )

    def of(self, exposure: Exposure) -> tuple[slice, slice]:
        """The slices that cut it out of an image."""
        (left, bottom) = exposure.xy0
        return slice(self.y0 - bottom, self.y1 - bottom), slice(self.x0 - left, self.x1 - left)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.y1 - self.y0, self.x1 - self.x0


@dataclass(frozen=True)
class Beneath:
    """The science image under a difference; the matched template is what the two leave: science - difference.

    Attributes
    ----------
    science : `numpy.ndarray`, (ny, nx), float32
        On the pixels, the flux scale and with the PSF of the difference.
    share : `float`
        Part of the difference's variance that the science image brought; the template brought the rest.
    """

    science: NDArray[np.float32]
    share: float


@dataclass(frozen=True)
class Plane:
    """One image of the fit.

    Attributes
    ----------
    data, variance : `numpy.ndarray`, (ny, nx)
        Pixels of the box; 0 and 1 where not ``good``.
    good : `numpy.ndarray`, (ny, nx), bool
    kernel : `numpy.ndarray`, (s, s)
        PSF, centred.
    signs : `tuple` [`float`, `float`]
        How the positive and the negative lobe appear.
    weight : `float`
        Of its residuals, relative to those of the other images.
    free_plane : `bool`
        Fit a sloping background too.
    """

    data: Floats
    variance: Floats
    good: NDArray[np.bool_]
    kernel: Floats
    signs: tuple[float, float]
    weight: float = 1.0
    free_plane: bool = False

    @property
    def weights(self) -> Floats:
        """Of the residuals: relative weight over σ, 0 for unusable pixels."""
        return np.where(self.good, self.weight / np.sqrt(self.variance), 0.0)


def plane(exposure: Exposure, box: Box, kernel: Floats) -> Plane:
    """Cut the box out of a difference."""
    where = box.of(exposure)
    image, variance = exposure.image[where], exposure.variance[where]
    good = usable(image, variance, exposure.mask[where], exposure.bits(*UNUSABLE))
    data = np.where(good, image, 0.0).astype(float)
    return Plane(data, np.where(good, variance, 1.0).astype(float), good, kernel, (1.0, -1.0))


def planes_of(difference: Exposure, beneath: Beneath, box: Box, kernel: Floats, weight: float) -> list[Plane]:
    """Difference, science image and matched template on the box; ``weight`` is that of the latter two."""
    whole = plane(difference, box, kernel)
    science = beneath.science[box.of(difference)].astype(float)
    good = whole.good & np.isfinite(science)
    science = np.where(good, science, 0.0)
    share = np.clip(beneath.share, MIN_SHARE, 1 - MIN_SHARE)
    return [
        whole,
        Plane(science, share * whole.variance, good, kernel, (1.0, 0.0), weight),
        Plane(science - whole.data, (1 - share) * whole.variance, good, kernel, (0.0, 1.0), weight),
    ]


@dataclass(frozen=True)
class Lobes:
    """A fit of two lobes.

    Attributes
    ----------
    parameters : `numpy.ndarray`, (6,)
        x₊, y₊, x₋, y₋ in parent pixels, f₊, f₋ as magnitudes.
    sigma : `numpy.ndarray`, (6,)
        Their errors from the variance planes.
    chi2dof : `float`
        Reduced χ²; an image counts with the square of its relative weight.
    separate, separate_sigma : `tuple` [`float`, `float`]
        Both fluxes fitted apart at these positions, and the errors of fluxes that are fitted apart.
    """

    parameters: Floats
    sigma: Floats
    chi2dof: float
    separate: tuple[float, float]
    separate_sigma: tuple[float, float]

    @property
    def finite(self) -> bool:
        """Whether all is finite and every error above 0."""
        errors = np.r_[self.sigma, self.separate_sigma]
        return bool(np.isfinite(self.parameters).all() and np.isfinite(errors).all() and (errors > 0).all())


def _lobe(kernel: Floats, x: float, y: float, box: Box) -> tuple[Floats, Floats, Floats]:
    """The PSF at (x, y) on the box, and its derivatives by x and y, (pixels,) each."""
    size, (ny, nx) = kernel.shape[0], box.shape
    place = np.array([x, y])
    pixel = nearest_pixel(place)
    starts = np.array([box.x0, box.y0]) + size // 2 - pixel
    first = int(starts.min())
    n_out = int((starts + np.array([nx, ny])).max()) - first
    matrix, slope = lanczos(place - pixel, first, n_out, size)
    in_x, in_y = (slice(s - first, s - first + n) for s, n in zip(starts, (nx, ny), strict=True))
    across, d_across, along, d_along = matrix[0, in_x], slope[0, in_x], matrix[1, in_y], slope[1, in_y]
    rows = along @ kernel
    return (rows @ across.T).ravel(), (rows @ d_across.T).ravel(), (d_along @ kernel @ across.T).ravel()


def _evaluate(planes: Sequence[Plane], box: Box, theta: Floats) -> tuple[list[Floats], list[Floats]]:
    """Weighted residuals (model − data) and Jacobian of each image."""
    n_free = sum(p.free_plane for p in planes)
    residuals, jacobians, next_column = [], [], N_LOBES
    drawn: dict[tuple[int, int], tuple[Floats, Floats, Floats]] = {}
    for p in planes:
        jacobian = np.zeros((p.data.size, N_LOBES + 3 * n_free))
        for lobe, sign in enumerate(p.signs):
            if sign == 0:
                continue
            key = id(p.kernel), lobe
            if key not in drawn:
                drawn[key] = _lobe(p.kernel, theta[2 * lobe], theta[2 * lobe + 1], box)
            m, mx, my = drawn[key]
            flux = theta[4 + lobe]
            jacobian[:, 2 * lobe] = sign * flux * mx
            jacobian[:, 2 * lobe + 1] = sign * flux * my
            jacobian[:, 4 + lobe] = sign * m
        if p.free_plane:
            jacobian[:, next_column : next_column + 3] = slope_terms(box.shape)
            next_column += 3
        model = jacobian[:, 4:] @ theta[4:]
        weights = p.weights.ravel()
        residuals.append(weights * (model - p.data.ravel()))
        jacobians.append(weights[:, None] * jacobian)
    return residuals, jacobians


def slope_terms(shape: tuple[int, int]) -> Floats:
    """1, x, y over a box, centred and scaled to [−½, ½], (pixels, 3)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack([np.ones(x.size), x.ravel() / shape[1] - 0.5, y.ravel() / shape[0] - 0.5], axis=1)


def fit_lobes(
    planes: Sequence[Plane],
    box: Box,
    start: Floats,
    reach: float,
    shared: bool,
    tolerance: float,
) -> Lobes:
    """Levenberg-Marquardt fit of positions and fluxes.

    Parameters
    ----------
    planes : `Sequence` [`Plane`]
        One image, or difference, science and template in this order.
    box : `Box`
    start : `numpy.ndarray`, (4,)
        x₊, y₊, x₋, y₋ to begin at, parent pixels; the fluxes begin at those that fit best there.
    reach : `float`
        How far each coordinate may go from its start, pixels.
    shared : `bool`
        One flux for both lobes.
    tolerance : `float`
        Relative decrease of χ² at which the fit ends.
    """
    apart = np.eye(N_LOBES + 3 * sum(p.free_plane for p in planes))
    tie = apart
    if shared:
        tie = np.delete(apart, 5, axis=1)
        tie[5, 4] = 1.0
    best = _descend(planes, box, start, reach, tie, tolerance)
    n_pixels = sum(p.weight**2 * int(p.good.sum()) for p in planes)
    sigma = _sigma(planes, best.jacobians, tie)
    separate = _fluxes_at(planes, box, best.theta[:4], apart).theta[4:N_LOBES]
    separate_sigma = _sigma(planes, best.jacobians, apart)[4:N_LOBES]
    return Lobes(
        best.theta[:N_LOBES],
        sigma[:N_LOBES],
        best.chi2 / max(n_pixels - tie.shape[1], 1.0),
        (float(separate[0]), float(separate[1])),
        (float(separate_sigma[0]), float(separate_sigma[1])),
    )


def _sigma(planes: Sequence[Plane], jacobians: Sequence[Floats], tie: Floats) -> Floats:
    """Errors of all parameters when those of ``tie`` are free."""
    covariance = tie @ _covariance(planes, [j @ tie for j in jacobians]) @ tie.T
    return np.asarray(np.sqrt(np.maximum(np.diag(covariance), 0.0)))


@dataclass(frozen=True)
class _Best:
    """The fluxes and planes that fit best at given positions, with residuals and Jacobian of each image."""

    theta: Floats
    residuals: list[Floats]
    jacobians: list[Floats]

    @property
    def chi2(self) -> float:
        return sum(float(r @ r) for r in self.residuals)


def _fluxes_at(planes: Sequence[Plane], box: Box, positions: Floats, tie: Floats) -> _Best:
    """Solve for all that is linear."""
    theta = np.r_[positions, np.ones(2), np.zeros(len(tie) - N_LOBES)]
    residuals, jacobians = _evaluate(planes, box, theta)
    linear = np.concatenate(jacobians) @ tie[:, 4:]
    at_zero = [r - j[:, 4:] @ theta[4:] for r, j in zip(residuals, jacobians, strict=True)]
    solution = np.linalg.lstsq(linear.T @ linear, -linear.T @ np.concatenate(at_zero), rcond=1e-14)[0]
    theta[4:] = tie[4:, 4:] @ solution
    scale = np.r_[np.repeat(theta[4:6], 2), np.ones(len(tie) - 4)]
    residuals = [r + j[:, 4:] @ theta[4:] for r, j in zip(at_zero, jacobians, strict=True)]
    return _Best(theta, residuals, [j * scale for j in jacobians])


def _descend(
    planes: Sequence[Plane], box: Box, start: Floats, reach: float, tie: Floats, tolerance: float
) -> _Best:
    """Move the positions downhill until χ² stands still, the fluxes always the best there.

    Flux and separation of a close dipole are one long valley: stepping in positions alone follows its floor
    (variable projection, Golub and Pereyra 1973).
    """
    best, damping = _fluxes_at(planes, box, start, tie), 1e-3
    for _ in range(MAX_ITERATIONS):
        free = np.concatenate(best.jacobians) @ tie
        normal = free.T @ free
        normal[np.arange(4), np.arange(4)] *= 1 + damping
        step = np.linalg.lstsq(normal, free.T @ np.concatenate(best.residuals), rcond=1e-14)[0]
        positions = np.clip(best.theta[:4] - step[:4], start - reach, start + reach)
        trial = _fluxes_at(planes, box, positions, tie)
        gain = best.chi2 - trial.chi2
        done = abs(gain) <= tolerance * best.chi2 or damping > 1e6
        if gain >= 0:
            best, damping = trial, 0.1 * damping
        else:
            damping *= 10.0
        if done:
            break
    return best


def _covariance(planes: Sequence[Plane], jacobians: Sequence[Floats]) -> Floats:
    """Covariance of the parameters, H⁻¹ (Σ g gᵀ σ²) H⁻¹ with H = Σ JᵀJ and g the weighted Jacobian.

    The images are not independent: the difference holds the noise of the science image and, with the other
    sign, of the template. What its variance plane has beyond both is its own.
    """
    hessian = sum(j.T @ j for j in jacobians)
    gains = [p.weights.ravel()[:, None] * j for p, j in zip(planes, jacobians, strict=True)]
    variances = [np.where(p.good, p.variance, 0.0).ravel()[:, None] for p in planes]
    if len(planes) == 1:
        sources = [(gains[0], variances[0])]
    else:
        own = np.maximum(variances[0] - variances[1] - variances[2], 0.0)
        sources = [
            (gains[0] + gains[1], variances[1]),
            (gains[2] - gains[0], variances[2]),
            (gains[0], own),
        ]
    noise = sum((gain * variance).T @ gain for gain, variance in sources)
    try:
        inverse = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        return np.full(np.shape(hessian), np.nan)
    return np.asarray(inverse @ noise @ inverse)
