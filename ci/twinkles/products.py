# SPDX-License-Identifier: BSD-3-Clause
"""One visit from sky to products: calexp, background and src."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from catalogue import build
from numpy.typing import NDArray
from psffit import fit_psf
from reduce import fit_background, grow, mask_of, repair, sources_of, variance_of
from render import expose
from scene import Scene
from sources import Calexp, measure
from stars import candidates, extract
from visits import EXPOSURE_TIME, SCALE, XY0, Visit, data_id

from diffrun.files.afw.background import Background
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.wcs import TanSipWcs

FWHM_TO_SIGMA = 1 / 2.3548


@dataclass(frozen=True)
class Products:
    """What processCcd writes for a visit; ``exposure.image`` is ``counts`` (repaired) minus ``sky``."""

    exposure: Exposure
    background: Background
    sources: Catalog
    counts: NDArray[np.int32]
    sky: NDArray[np.float32]


def process(scene: Scene, visit: Visit, seed: int) -> Products:
    """Simulate and reduce a visit."""
    frame = expose(scene, visit, seed)
    counts = repair(frame)
    variance = variance_of(counts).astype(float)
    sigma = visit.fwhm / SCALE * FWHM_TO_SIGMA
    background = fit_background(counts, np.zeros(counts.shape, bool))
    for threshold in (5.0, 3.0, 3.0):
        found = sources_of(counts - background.image(counts.shape), variance, sigma, threshold)
        background = fit_background(counts, grow(found, 8))
    sky = background.image(counts.shape)
    image = counts.astype(np.float32) - sky
    work = image.astype(float)
    mask = mask_of(frame, sources_of(work, variance, sigma, 5.0), sigma)
    objects, segments = extract(work, variance, sigma)
    rows, stars = candidates(objects, segments, work, variance, mask)
    psf, used = fit_psf(stars)
    measured = measure(Calexp(work, variance, mask, psf), objects, segments, rows, used)
    exposure = Exposure(
        image, mask, variance.astype(np.float32), tan(visit), psf, XY0, filter=visit.band,
        flux_mag0=visit.flux_mag0, flux_mag0_err=0.002 * visit.flux_mag0,
        mjd=visit.mjd + EXPOSURE_TIME / 2 / 86400, exposure_time=EXPOSURE_TIME,
        metadata={"MJD-OBS": visit.mjd, "OBSID": visit.number, "CHIPID": "R22_S11"},
    )  # fmt: skip
    sources = build(measured, exposure.wcs, data_id(visit).ccd_exposure_id)
    return Products(exposure, background, sources, counts, sky)


def tan(visit: Visit) -> TanSipWcs:
    """The visit's projection as the calexp holds it."""
    cards = visit.wcs.wcs
    crpix = (float(cards.crpix[0]) - 1, float(cards.crpix[1]) - 1)
    return TanSipWcs((float(cards.crval[0]), float(cards.crval[1])), crpix, np.array(cards.cd))
