# SPDX-License-Identifier: BSD-3-Clause
"""What the kernel's stars say of the claims of both files: the PSF, and the zero points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.candidates import Candidates
from diffrun.engine.fluxes import weigh
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA
from diffrun.engine.stamps import Floats, cut, kernel_images, nearest_pixel, shifted
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import KernelPsf

Metadata = dict[str, Any]

#: Radius of the apertures, FWHM, and the ring that tells the sky, in radii.
_RADIUS, _RING = 1.5, (2.0, 3.0)
#: The brightest stars are asked, and at least so many of them.
_MOST, _FEWEST = 60, 5
_KEY = "imageDifference:quality"


def claims(plain: Exposure, psf: KernelPsf, sigma: float, stars: Candidates, scale: float) -> Metadata:
    """What can be told of the claims, each 1 where it is true.

    ``psfFlux`` is the flux of stars by the PSF over that in apertures, as far as the PSF says how much these
    hold: a PSF that is too wide by a part makes fluxes too large by about that part. ``fluxScale`` is the
    scale that the stars tell over that of the zero points.

    Parameters
    ----------
    plain : `Exposure`
        The image that is not convolved: the difference has its PSF.
    psf : `KernelPsf`
        Its PSF.
    sigma : `float`
        Width of that, pixels.
    stars : `Candidates`
        Those that the kernel was fitted to.
    scale : `float`
        Counts by the stars over counts by the zero points; NaN where these are not known.
    """
    facts: Metadata = {}
    ratio = psf_flux_ratio(plain, psf, FWHM_PER_SIGMA * sigma, stars)
    if np.isfinite(ratio):
        facts[f"{_KEY}.psfFlux"] = ratio
    if np.isfinite(scale):
        facts[f"{_KEY}.fluxScale"] = float(scale)
    return facts


def psf_flux_ratio(exposure: Exposure, psf: KernelPsf, fwhm: float, stars: Candidates) -> float:
    """Median over stars of PSF flux over aperture flux, as the PSF predicts it; NaN for too few stars."""
    brightest = np.argsort(-stars.snr, kind="stable")[:_MOST]
    x, y = stars.x[brightest], stars.y[brightest]
    column, row = nearest_pixel(x), nearest_pixel(y)
    radius = _RADIUS * fwhm
    half = int(np.ceil(_RING[1] * radius))
    away = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    core, ring = away <= radius, (away > _RING[0] * radius) & (away <= _RING[1] * radius)
    stamps = cut(exposure, column, row, half)
    whole = stamps.good[:, core].all(axis=1) & stamps.good[:, ring].any(axis=1)
    if whole.sum() < _FEWEST:
        return float("nan")
    stamps, x, y, column, row = stamps[whole], x[whole], y[whole], column[whole], row[whole]
    profile = shifted(kernel_images(psf, x, y), x - column, y - row, half)
    level = np.nanmedian(np.where(stamps.good, stamps.image, np.nan)[:, ring], axis=1)
    image = np.where(stamps.good, stamps.image - level[:, None, None], 0.0)
    measured = weigh(replace(stamps, image=image, good=stamps.good & core), _above_ring(profile, ring))
    within = image[:, core].sum(axis=1)
    predicted = measured.flux * _above_ring(profile, ring)[:, core].sum(axis=1)
    known = (within > 0) & np.isfinite(predicted)
    return float(np.median(predicted[known] / within[known])) if known.sum() >= _FEWEST else float("nan")


def _above_ring(profile: Floats, ring: NDArray[np.bool_]) -> Floats:
    """Profiles without their own level in the ring."""
    return np.asarray(profile - np.median(profile[:, ring], axis=1)[:, None, None])
