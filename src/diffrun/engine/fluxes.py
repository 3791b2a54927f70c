# SPDX-License-Identifier: BSD-3-Clause
"""Fluxes of many sources at once by weighing their pixels with a profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.stamps import Floats, Stamps, cut, cut_both, nearest_pixel, shifted
from diffrun.files.afw.exposure import Exposure

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Fluxes:
    """Fluxes and errors (NaN where nothing could be weighed), and what was amiss, (N,) each.

    Attributes
    ----------
    empty : `numpy.ndarray`, (N,), bool
        No usable pixel under the profile.
    edge : `numpy.ndarray`, (N,), bool
        The profile reaches beyond the image.
    """

    flux: Floats
    sigma: Floats
    empty: Bools
    edge: Bools

    def without_centroid_bias(self, fitted: Bools) -> Fluxes:
        """Take off what a position that was fitted to the same noise adds to the flux.

        The maximum of a matched filter over two coordinates lies higher than its value at the true place:
        E[f²] = f₀² + σ² there, but f₀² + 3 σ² at the maximum. Hence f √(1 − 2 σ²/f²), which is 1 % at S/N 10
        (Portillo, Speagle and Finkbeiner 2020, AJ 159, 165).

        Parameters
        ----------
        fitted : `numpy.ndarray`, (N,), bool
            Where the position is that of the maximum.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = 2 * (self.sigma / self.flux) ** 2
            factor = np.where(fitted & (gain < 0.5), np.sqrt(np.maximum(1 - gain, 0.0)), 1.0)
        return Fluxes(self.flux * factor, self.sigma, self.empty, self.edge)


def weigh(stamps: Stamps, profile: Floats) -> Fluxes:
    """f = Σ m d / Σ m² and σ = √(Σ m² var) / Σ m² over the usable pixels.

    Parameters
    ----------
    stamps : `Stamps`, of N sources
    profile : `numpy.ndarray`, (N, s, s)
        What a source of flux 1 looks like on its stamp.
    """
    m = np.where(stamps.good, profile, 0.0)
    norm = np.einsum("nij,nij->n", m, m)
    empty = ~(norm > 0)
    safe = np.where(empty, np.nan, norm)
    flux = np.einsum("nij,nij->n", m, stamps.image) / safe
    sigma = np.sqrt(np.einsum("nij,nij,nij->n", m, m, stamps.variance)) / safe
    return Fluxes(flux, sigma, empty, _cut_off(stamps))


def _cut_off(stamps: Stamps) -> Bools:
    return np.asarray(~stamps.inside.all(axis=(1, 2)))


def psf_flux(exposure: Exposure, kernels: Floats, x: Floats, y: Floats) -> Fluxes:
    """PSF fluxes at parent positions (x, y); ``kernels`` is the PSF at each, (N, s, s), centred."""
    column, row = nearest_pixel(x), nearest_pixel(y)
    half = kernels.shape[-1] // 2
    return weigh(cut(exposure, column, row, half), shifted(kernels, x - column, y - row, half))


def forced_fluxes(
    exposure: Exposure, beneath: NDArray[np.float32], kernels: Floats, x: Floats, y: Floats
) -> tuple[Fluxes, Floats]:
    """PSF fluxes on an exposure and, with the same weights, on a plane of its grid.

    Pixels that are no numbers on the plane are left out of both.
    """
    column, row = nearest_pixel(x), nearest_pixel(y)
    half = kernels.shape[-1] // 2
    stamps, under = cut_both(exposure, beneath, column, row, half)
    profile = shifted(kernels, x - column, y - row, half)
    flux = weigh(Stamps(under, stamps.variance, stamps.good, stamps.inside), profile).flux
    return weigh(stamps, profile), flux


def gaussian_flux(
    stamps: Stamps, center: tuple[Floats, Floats], moments: tuple[Floats, Floats, Floats]
) -> Fluxes:
    """The flux of the elliptical Gaussian that fits best.

    Parameters
    ----------
    center : `tuple` of `numpy.ndarray`, (N,)
        Offsets (dx, dy) from the middle pixel.
    moments : `tuple` of `numpy.ndarray`, (N,)
        xx, yy, xy, pixel².
    """
    dx, dy = center
    x = (stamps.offsets - dx[:, None])[:, None, :]
    y = (stamps.offsets - dy[:, None])[:, :, None]
    xx, yy, xy = (moment[:, None, None] for moment in moments)
    det = xx * yy - xy**2
    radius2 = (yy * x**2 - 2 * xy * x * y + xx * y**2) / det
    return weigh(stamps, np.exp(-0.5 * radius2) / (2 * np.pi * np.sqrt(det)))


def peak_likelihood_flux(exposure: Exposure, kernels: Floats, x: Floats, y: Floats) -> Fluxes:
    """The image's value at (x, y) times the effective area (Σ m)² / Σ m² of the PSF.

    The flux of a source on an image that was convolved with its own PSF before; elsewhere an overestimate.
    """
    column, row = nearest_pixel(x), nearest_pixel(y)
    half = 5
    stamps = cut(exposure, column, row, half)
    point = np.zeros((len(x), 2 * half + 1, 2 * half + 1))
    point[:, half, half] = 1.0
    taps = shifted(point, x - column, y - row, half)
    area = 1.0 / np.einsum("nij,nij->n", kernels, kernels)
    value = np.einsum("nij,nij->n", taps, stamps.image)
    variance = np.einsum("nij,nij,nij->n", taps, taps, stamps.variance)
    empty = ~stamps.good[:, half, half]
    flux, sigma = np.where(empty, np.nan, value * area), np.where(empty, np.nan, np.sqrt(variance) * area)
    return Fluxes(flux, sigma, empty, _cut_off(stamps))
