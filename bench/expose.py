# SPDX-License-Identifier: BSD-3-Clause
"""From the sky to the counts of a visit: every point drawn with the true PSF at its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from conditions import BAND, EXPOSURE_TIME, FULL_WELL, READ_NOISE, SCALE, Configuration, Night
from numba import njit
from numpy.typing import NDArray
from objects import KINDS, Sky, knots
from scipy.ndimage import gaussian_filter
from truepsf import STEP, TruePsf

from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.wcs import TanSipWcs

Array = NDArray[np.float64]

FIELD = (53.0091, -27.4389)  # degrees
FAINTEST = 0.03  # counts a pixel below which wings are not drawn


@dataclass(frozen=True)
class Scenery:
    """A visit's view: its WCS, its PSF and the light that falls on its pixels, counts, (ny, nx) float32."""

    night: Night
    wcs: TanSipWcs
    psf: TruePsf
    light: NDArray[np.float32]


def tangent(night: Night, shape: tuple[int, int]) -> TanSipWcs:
    """The projection that the file of a visit holds."""
    angle = np.deg2rad(night.rotation)
    cos, sin = SCALE / 3600 * np.cos(angle), SCALE / 3600 * np.sin(angle)
    crpix = ((shape[1] - 1) / 2 + night.shift[0], (shape[0] - 1) / 2 + night.shift[1])
    return TanSipWcs(FIELD, crpix, np.array([[-cos, sin], [sin, cos]]))


def on_sensor(x: Array, y: Array, configuration: Configuration, night: Night) -> tuple[Array, Array]:
    """Pixels of a visit for positions in pixels of the science visit, what its WCS does not know included."""
    science = tangent(configuration.science, configuration.shape)
    if night is not configuration.science:
        x, y = tangent(night, configuration.shape).sky_to_pixel(*science.pixel_to_sky(x, y))
    ny, nx = configuration.shape
    u, v = 2 * np.pi * x / nx, 2 * np.pi * y / ny
    a = night.astrometry
    return x + a * np.sin(0.8 * u + 0.5 * v + 0.4), y + a * np.cos(0.6 * u - 0.9 * v)


def transparency(x: Array, y: Array, night: Night, shape: tuple[int, int]) -> Array:
    """Counts for one unit of flux at pixels of the visit."""
    u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
    clouds = 0.5 * night.clouds * np.sin(1.3 * u + 0.9 * v) * np.cos(0.8 * v - 0.3 * u)
    return np.asarray(night.transparency * (1 + clouds))


def see(sky: Sky, configuration: Configuration, night: Night, psf: TruePsf) -> Scenery:
    """Draw everything that shines in a visit."""
    gx, gy, gf, members = knots(sky.galaxy)
    changing = sky.change["base"] + _visible_change(sky, night is configuration.science)
    x = np.concatenate([sky.star["x"], gx, sky.change["x"]])
    y = np.concatenate([sky.star["y"], gy, sky.change["y"]])
    flux = np.concatenate([sky.star["flux"], gf, changing])
    members = np.concatenate([np.ones(len(sky.star)), members, np.ones(len(changing))])
    x, y = on_sensor(x, y, configuration, night)
    flux = flux * transparency(x, y, night, configuration.shape)
    light = np.zeros(configuration.shape, np.float64)
    limit = FAINTEST / members / np.maximum(flux, 1e-9) * psf.fwhm**2
    reach = np.searchsorted(-psf.profile, -limit) * STEP * psf.fwhm * 1.05
    shining = flux > 0
    _draw(
        light, x[shining], y[shining], flux[shining], psf.forms(x, y)[shining],
        np.maximum(reach[shining], 2 * psf.fwhm), psf.profile, 1 / STEP,
    )  # fmt: skip
    return Scenery(night, tangent(night, configuration.shape), psf, light.astype(np.float32))


def _visible_change(sky: Sky, science: bool) -> Array:
    """What a change adds to the base: its flux in science, what went away in the template."""
    flux = sky.change["flux"]
    varies = sky.change["kind"] == KINDS.index("variable")
    if science:
        return np.where(varies | (flux > 0), flux, 0.0)
    return np.where(varies | (flux > 0), 0.0, -flux)


@njit(cache=True)
def _draw(image, x, y, flux, form, reach, profile, per_step):  # type: ignore[no-untyped-def]
    """Add each point's profile, linear between the table's radii, on a disc of its reach."""
    ny, nx = image.shape
    last = len(profile) - 2
    for i in range(len(x)):
        r2 = reach[i] * reach[i]
        q11, q12, q22 = form[i, 0] * per_step**2, form[i, 1] * per_step**2, form[i, 2] * per_step**2
        scale = flux[i] * form[i, 3]
        for row in range(max(0, int(y[i] - reach[i])), min(ny, int(y[i] + reach[i]) + 2)):
            dy = row - y[i]
            if dy * dy > r2:
                continue
            half = np.sqrt(r2 - dy * dy)
            for column in range(max(0, int(x[i] - half)), min(nx, int(x[i] + half) + 2)):
                dx = column - x[i]
                at = np.sqrt(q11 * dx * dx + 2 * q12 * dx * dy + q22 * dy * dy)
                k = int(at)
                if k <= last:
                    image[row, column] += scale * (profile[k] + (at - k) * (profile[k + 1] - profile[k]))


def sky_of(night: Night, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The sky with a slope of 2 % across the sensor."""
    v, u = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    turn = np.deg2rad(night.number)
    return np.asarray(night.sky * (1 + 0.01 * (np.cos(turn) * u + np.sin(turn) * v)), np.float32)


def calexp(scenery: Scenery, rng: np.random.Generator, psf_error: float) -> Exposure:
    """The calibrated exposure: counts with photon and read noise, less the sky; mask and variance."""
    night, shape = scenery.night, scenery.light.shape
    sky = sky_of(night, shape)
    counts = rng.poisson(scenery.light + sky).astype(np.float32)
    counts += np.float32(READ_NOISE) * rng.standard_normal(shape, np.float32)
    saturated = counts >= FULL_WELL
    counts = np.minimum(np.rint(counts), FULL_WELL)
    variance = np.maximum(counts, 0) + np.float32(READ_NOISE**2)
    image = counts - sky
    return Exposure(
        image, _mask(image, saturated, night), variance, scenery.wcs, scenery.psf.model(psf_error),
        filter=BAND, flux_mag0=1e12 * night.transparency, flux_mag0_err=1e9,
        mjd=night.mjd + EXPOSURE_TIME / 2 / 86400, exposure_time=EXPOSURE_TIME,
        metadata={"MJD-OBS": night.mjd, "OBSID": night.number, "CHIPID": "R22_S11"},
    )  # fmt: skip


def _mask(image: NDArray[np.float32], saturated: NDArray[np.bool_], night: Night) -> NDArray[np.int32]:
    """SAT where the well is full, DETECTED where the smoothed image stands above 5 sigma, EDGE on the rim."""
    sigma = night.fwhm / SCALE / 2.3548
    noise = np.sqrt((night.sky + READ_NOISE**2) / (4 * np.pi * sigma**2))
    mask = np.where(saturated, np.int32(1 << DEFAULT_PLANES["SAT"]), np.int32(0))
    found = gaussian_filter(image, sigma, truncate=3) > 5 * noise
    mask[found] |= 1 << DEFAULT_PLANES["DETECTED"]
    rim = int(3.5 * sigma + 0.5)
    for edge in (np.s_[:rim], np.s_[-rim:], np.s_[:, :rim], np.s_[:, -rim:]):
        mask[edge] |= 1 << DEFAULT_PLANES["EDGE"]
    return mask
