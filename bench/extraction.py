# SPDX-License-Identifier: BSD-3-Clause
"""The `src` catalogue of a simulated visit, as processCcd would leave it."""

from __future__ import annotations

from typing import Any

import numpy as np
import sep
from catalogue import build
from conditions import READ_NOISE, STAMP, Configuration, Night
from expose import Scenery, on_sensor, transparency
from numba import njit
from numpy.typing import NDArray
from objects import Sky
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree
from sources import FLAGGED, RADII

from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure

Array = NDArray[np.float64]

THRESHOLD = 5.0  # S/N of the faintest source
TOUCHING = 7.0  # pixels within which the fainter of two objects is not a source of its own
EXTENDED = 0.15  # of the PSF's variance: what a galaxy must add to be known as one


def catalogue_of(
    sky: Sky, configuration: Configuration, scenery: Scenery, exposure: Exposure, ccd_exposure_id: int,
    rng: np.random.Generator,
) -> Catalog:  # fmt: skip
    """Every object of enough S/N that stands apart, measured on the image at its place, give or take."""
    x, y, flux, size = _objects(sky, configuration, scenery.night)
    sigma = scenery.psf.fwhm / 2.3548
    spread = 4 * np.pi * (sigma**2 + (size / 1.5) ** 2)
    noise = np.sqrt(spread * (scenery.night.sky + READ_NOISE**2) + flux)
    keep = (flux > THRESHOLD * noise) & _inside(x, y, configuration.shape, 3)
    x, y, flux, size, noise = (a[keep] for a in (x, y, flux, size, noise))
    keep = _leading(x, y, flux)
    x, y, flux, size, noise = (a[keep] for a in (x, y, flux, size, noise))
    error = np.sqrt(2) * sigma * noise / flux
    x, y = x + error * rng.standard_normal(len(x)), y + error * rng.standard_normal(len(x))
    psf_flux, psf_error = _psf_fluxes(exposure, scenery, x, y)
    measured: dict[str, NDArray[Any]] = {
        "x": x, "y": y, "sigma_x": error, "sigma_y": error, "astray": np.zeros(len(x), bool),
        "base_PsfFlux_flux": psf_flux, "base_PsfFlux_fluxSigma": psf_error,
        "base_GaussianFlux_flux": flux + noise * rng.standard_normal(len(x)),
        "base_GaussianFlux_fluxSigma": noise,
        "base_ClassificationExtendedness_value":
            ((size / 1.5) ** 2 > EXTENDED * sigma**2 * (1 + 10 * noise / flux)).astype(float),
        "blend": np.arange(len(x)) + 1,
    }  # fmt: skip
    measured |= _shapes(scenery, x, y, size, noise / flux) | _apertures(exposure, x, y)
    measured |= _flags(exposure, x, y)
    bright = (flux > 60 * noise) & (size == 0) & ~measured["base_PixelFlags_flag_saturated"]
    measured |= {"calib_psfCandidate": bright, "calib_psfUsed": bright & (rng.uniform(size=len(x)) < 0.8)}
    return build(measured, exposure.wcs, ccd_exposure_id)


def _objects(sky: Sky, configuration: Configuration, night: Night) -> tuple[Array, Array, Array, Array]:
    """Pixels, counts and half-light radius of all that a visit holds."""
    change = sky.change
    own = (
        change["flux"] if night is configuration.science else np.where(change["base"] > 0, 0, -change["flux"])
    )
    parts = [
        (sky.star["x"], sky.star["y"], sky.star["flux"], np.zeros(len(sky.star))),
        (sky.galaxy["x"], sky.galaxy["y"], sky.galaxy["flux"], sky.galaxy["size"]),
        (change["x"], change["y"], change["base"] + own, np.zeros(len(change))),
    ]
    x, y, flux, size = (np.concatenate(column) for column in zip(*parts, strict=True))
    x, y = on_sensor(x, y, configuration, night)
    return x, y, np.maximum(flux * transparency(x, y, night, configuration.shape), 1e-3), size


def _inside(x: Array, y: Array, shape: tuple[int, int], border: float) -> NDArray[np.bool_]:
    return (x > border) & (y > border) & (x < shape[1] - 1 - border) & (y < shape[0] - 1 - border)


def _leading(x: Array, y: Array, flux: Array) -> NDArray[np.bool_]:
    """Objects that no brighter one touches."""
    keep = np.ones(len(x), bool)
    for i, j in cKDTree(np.stack([x, y], axis=1)).query_pairs(TOUCHING):
        keep[i if flux[i] < flux[j] else j] = False
    return keep


def _psf_fluxes(exposure: Exposure, scenery: Scenery, x: Array, y: Array) -> tuple[Array, Array]:
    """Unweighted PSF fluxes with the true PSF, in counts on its stamp, as `base_PsfFlux` gives them."""
    form = scenery.psf.forms(x, y)
    return _fit(exposure.image, exposure.variance, x, y, form, scenery.psf.profile, STAMP // 2)


@njit(cache=True)
def _fit(image, variance, x, y, form, profile, half):  # type: ignore[no-untyped-def]
    ny, nx = image.shape
    flux, error = np.zeros(len(x)), np.zeros(len(x))
    for i in range(len(x)):
        total, squares, data, noise = 0.0, 0.0, 0.0, 0.0
        row0, column0 = int(np.floor(y[i] + 0.5)), int(np.floor(x[i] + 0.5))
        for row in range(max(0, row0 - half), min(ny, row0 + half + 1)):
            for column in range(max(0, column0 - half), min(nx, column0 + half + 1)):
                dx, dy = column - x[i], row - y[i]
                at = np.sqrt(form[i, 0] * dx * dx + 2 * form[i, 1] * dx * dy + form[i, 2] * dy * dy) * 250.0
                k = int(at)
                p = form[i, 3] * (profile[k] + (at - k) * (profile[k + 1] - profile[k]))
                total += p
                squares += p * p
                data += p * image[row, column]
                noise += p * p * variance[row, column]
        flux[i] = total * data / squares
        error[i] = total * np.sqrt(noise) / squares
    return flux, error


def _shapes(scenery: Scenery, x: Array, y: Array, size: Array, relative: Array) -> dict[str, Array]:
    """Moments of the PSF widened by the galaxy."""
    q11, q12, q22, _ = scenery.psf.forms(x, y).T
    det = (q11 * q22 - q12**2) * 2.3548**2
    wide = (size / 1.5) ** 2
    shapes = {"xx": q22 / det + wide, "yy": q11 / det + wide, "xy": -q12 / det}
    found = {f"base_SdssShape_{k}": v for k, v in shapes.items()}
    error = np.sqrt(2) * shapes["xx"] * relative
    return found | {f"base_SdssShape_{k}Sigma": error for k in shapes}


def _apertures(exposure: Exposure, x: Array, y: Array) -> dict[str, Array]:
    noise = np.sqrt(exposure.variance)
    found = {}
    for radius in RADII:
        name = f"base_CircularApertureFlux_{str(radius).replace('.', '_')}"
        flux, error, flag = sep.sum_circle(exposure.image, x, y, radius, err=noise, subpix=1)
        found |= {f"{name}_flux": flux, f"{name}_fluxSigma": error, f"{name}_flag": flag != 0}
    return found


def _flags(exposure: Exposure, x: Array, y: Array) -> dict[str, NDArray[np.bool_]]:
    """A plane within 5 pixels, or ("Center") within one."""
    column, row = (
        np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip((x, y), exposure.shape[::-1], strict=True)
    )
    found = {}
    for flag, plane in FLAGGED.items():
        where = exposure.has(plane)
        wide = maximum_filter(where, 11) if where.any() else where
        found[f"base_PixelFlags_flag_{flag}"] = wide[row, column]
        if flag in ("interpolated", "saturated", "cr", "suspect"):
            near = maximum_filter(where, 3) if where.any() else where
            found[f"base_PixelFlags_flag_{flag}Center"] = near[row, column]
    return found
