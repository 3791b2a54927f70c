# SPDX-License-Identifier: BSD-3-Clause
"""Dipoles: what a star leaves that moved between the two images, or was placed wrongly in one of them.

A source is looked at as a dipole when its first peak is positive and its last negative. ``joint`` fits
difference, science image and matched template together (ip_diffim's ``DipoleFitTask``), ``on_difference`` the
difference alone (``PsfDipoleFlux``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffrun.engine.footprint import Footprint
from diffrun.engine.lobes import Beneath, Box, Lobes, Plane, fit_lobes, plane, planes_of, slope_terms
from diffrun.engine.stamps import Floats
from diffrun.files.afw.exposure import Exposure

#: Pixels by which the box of a fit exceeds its footprint; the background is taken from there.
MARGIN = 3
#: Pixels that a background plane needs at least.
MIN_BACKGROUND_PIXELS = 12


@dataclass(frozen=True)
class Settings:
    """What the configuration says about dipoles, by the stack's names."""

    fit_all: bool
    max_separation: float
    rel_weight: float
    tolerance: float
    fit_background: int
    separate: bool
    min_sn: float
    max_flux_ratio: float
    psf_min_sn: float
    psf_max_flux_ratio: float

    @classmethod
    def of(cls, config: Any) -> Settings:
        """Read them from the configuration tree of ``imageDifference.py``."""
        fit = config.measurement.plugins["ip_diffim_DipoleFit"]
        alone = config.measurement.plugins["ip_diffim_ClassificationDipole"]
        return cls(
            fit_all=bool(fit.fitAllDiaSources),
            max_separation=float(fit.maxSeparation),
            rel_weight=float(fit.relWeight),
            tolerance=float(fit.tolerance),
            fit_background=int(fit.fitBackground),
            separate=bool(fit.fitSeparateNegParams),
            min_sn=float(fit.minSn),
            max_flux_ratio=float(fit.maxFluxRatio),
            psf_min_sn=float(alone.minSn),
            psf_max_flux_ratio=float(alone.maxFluxRatio),
        )


@dataclass(frozen=True)
class Dipole:
    """One fitted dipole, fluxes as magnitudes, parent pixels.

    Where ``failed`` is set the positions are the peaks and the rest is NaN. ``snr`` is that of both lobes in
    quadrature, each with the error of a flux of its own: a flux they share is not counted twice. ``ratio`` is
    the part of the larger of two fluxes fitted apart.
    """

    positions: Floats
    position_sigmas: Floats
    fluxes: tuple[float, float]
    sigmas: tuple[float, float]
    chi2dof: float
    snr: float
    ratio: float
    edge: bool
    failed: bool

    @property
    def centroid(self) -> tuple[float, float]:
        """Middle of the lobes."""
        x, y = self.positions.reshape(2, 2).mean(axis=0)
        return float(x), float(y)

    @property
    def separation(self) -> float:
        """From the negative to the positive lobe, pixels."""
        return float(np.hypot(*(self.positions[:2] - self.positions[2:])))

    @property
    def orientation(self) -> float:
        """Direction from the negative to the positive lobe, degrees from the x axis."""
        dx, dy = self.positions[:2] - self.positions[2:]
        return float(np.degrees(np.arctan2(dy, dx)))

    def is_dipole(self, min_sn: float, max_flux_ratio: float) -> bool:
        """Whether both lobes are significant together and neither holds most of the flux."""
        return not self.failed and self.snr > min_sn and min(self.fluxes) > 0 and self.ratio < max_flux_ratio


def has_both_signs(footprint: Footprint) -> bool:
    """The gate of the fits: the first peak positive, the last negative."""
    return bool(footprint.peaks_snr[0] > 0 > footprint.peaks_snr[-1])


def start_positions(footprint: Footprint, reach: float) -> Floats:
    """x₊, y₊, x₋, y₋ of the first and the last peak; one too far out starts in the footprint's middle.

    Parameters
    ----------
    reach : `float`
        How far from the middle a peak may lie (|Δx| + |Δy|, pixels).
    """
    x, y = footprint.pixels()
    middle = np.array([x.mean(), y.mean()])
    peaks = np.stack([footprint.peaks_x[[0, -1]], footprint.peaks_y[[0, -1]]], axis=1).astype(float)
    far = np.abs(peaks - middle).sum(axis=1) > reach
    return np.asarray(np.where(far[:, None], middle, peaks).ravel())


def _box(footprint: Footprint, kernel: Floats, exposure: Exposure) -> Box:
    """The footprint's box and a margin, no farther from the lobes than the PSF reaches."""
    x0, y0, x1, y1 = footprint.bbox
    half = kernel.shape[0] // 2
    px, py = footprint.peaks_x[[0, -1]], footprint.peaks_y[[0, -1]]
    near = Box(
        max(x0, int(px.min()) - half),
        max(y0, int(py.min()) - half),
        min(x1, int(px.max()) + half) + 1,
        min(y1, int(py.max()) + half) + 1,
    )
    return near.grown(MARGIN, exposure)


def _at_edge(footprint: Footprint, exposure: Exposure) -> bool:
    """Whether the margin of the footprint reaches beyond the image."""
    x0, y0, x1, y1 = footprint.bbox
    box = Box(x0, y0, x1 + 1, y1 + 1)
    inner = Box(x0 - MARGIN, y0 - MARGIN, x1 + 1 + MARGIN, y1 + 1 + MARGIN)
    return box.grown(MARGIN, exposure) != inner


def joint(
    footprint: Footprint,
    difference: Exposure,
    beneath: Beneath,
    kernel: Floats,
    sigma: float,
    settings: Settings,
) -> Dipole:
    """Fit difference, science image and matched template together.

    The two images tell flux from separation, which a difference alone cannot below about 1 σ of the PSF
    (DMTN-007).

    Parameters
    ----------
    kernel : `numpy.ndarray`, (s, s)
        The PSF of the difference at the source.
    sigma : `float`
        Its width, pixels.
    """
    box = _box(footprint, kernel, difference)
    images = planes_of(difference, beneath, box, kernel, settings.rel_weight)
    if settings.fit_background > 0:
        inside = footprint.mask((box.x0, box.y0), box.shape)
        images[1:] = [_without_background(p, inside) for p in images[1:]]
    if settings.fit_background > 1:
        images[1:] = [dataclasses.replace(p, free_plane=True) for p in images[1:]]
    return _fit(footprint, images, box, sigma, settings, not settings.separate, difference)


def on_difference(
    footprint: Footprint, difference: Exposure, kernel: Floats, sigma: float, settings: Settings
) -> Dipole:
    """Fit two lobes of free fluxes to the difference alone."""
    box = _box(footprint, kernel, difference)
    return _fit(footprint, [plane(difference, box, kernel)], box, sigma, settings, False, difference)


def _without_background(image: Plane, inside: Any) -> Plane:
    """The image without the sloping plane that fits its pixels outside the footprint."""
    outside = image.good & ~inside
    if outside.sum() < MIN_BACKGROUND_PIXELS:
        return image
    terms, weights = slope_terms(image.data.shape), np.where(outside, image.weights, 0.0).ravel()
    slopes = np.linalg.lstsq(weights[:, None] * terms, weights * image.data.ravel(), rcond=None)[0]
    return dataclasses.replace(image, data=image.data - (terms @ slopes).reshape(image.data.shape))


def _fit(
    footprint: Footprint,
    images: list[Plane],
    box: Box,
    sigma: float,
    settings: Settings,
    shared: bool,
    difference: Exposure,
) -> Dipole:
    """Fit, and fall back to the peaks where nothing sensible comes out."""
    reach = settings.max_separation * sigma
    start = start_positions(footprint, reach)
    edge = _at_edge(footprint, difference)
    if all(int(p.good.sum()) > len(start) + 2 for p in images):
        fit = fit_lobes(images, box, start, reach, shared, settings.tolerance)
        if _sensible(fit, start, reach):
            return _dipole(fit, edge)
    nothing = (float("nan"), float("nan"))
    peaks = start_positions(footprint, np.inf)
    return Dipole(peaks, np.full(4, np.nan), nothing, nothing, *nothing, nothing[0], edge, True)


def _sensible(fit: Lobes, start: Floats, reach: float) -> bool:
    """Positive fluxes, finite errors, and lobes near where they began."""
    near = np.abs(fit.parameters[:4] - start) < reach
    return bool(fit.finite and near.all() and (fit.parameters[4:] > 0).all())


def _dipole(fit: Lobes, edge: bool) -> Dipole:
    lobes = np.abs(fit.separate)
    ratio = float(lobes.max() / lobes.sum()) if min(fit.separate) > 0 else 1.0
    pos, neg = fit.parameters[4:]
    return Dipole(
        fit.parameters[:4],
        fit.sigma[:4],
        (float(pos), float(neg)),
        (float(fit.sigma[4]), float(fit.sigma[5])),
        fit.chi2dof,
        float(np.hypot(pos / fit.separate_sigma[0], neg / fit.separate_sigma[1])),
        ratio,
        edge,
        False,
    )
