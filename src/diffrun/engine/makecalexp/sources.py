# SPDX-License-Identifier: BSD-3-Clause
"""The ``src`` table: what was detected, measured with the PSF, in the stack's names (version 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from diffrun.engine.makecalexp.psffit import shift_matrices
from diffrun.engine.makecalexp.stars import Objects
from diffrun.files.afw.catalog import Catalog, Field
from diffrun.files.afw.exposure import Exposure

Array = NDArray[np.float64]

RADII = (3.0, 4.5, 6.0, 9.0, 12.0)
#: Flag of ``base_PixelFlags`` -> plane.
FLAGGED = {
    "edge": "EDGE", "interpolated": "INTRP", "saturated": "SAT", "cr": "CR", "bad": "BAD",
    "suspect": "SUSPECT", "offimage": "NO_DATA",
}  # fmt: skip
_CENTRED = ("interpolated", "saturated", "cr", "suspect")
#: A source is extended if its PSF flux falls short of its aperture flux by more than stars do, and this.
_EXTENDED, _EXTENDED_SIGMA = 0.06, 2.0
_CHUNK = 512
_APERTURE_FWHM = 1.5
ALIASES = {
    "slot_ApFlux": "base_CircularApertureFlux_12_0",
    "slot_CalibFlux": "base_CircularApertureFlux_12_0",
    "slot_Centroid": "base_SdssCentroid",
    "slot_PsfFlux": "base_PsfFlux",
}


def fields() -> list[Field]:
    """The schema."""
    found = [
        Field("id", "L", "", "unique ID"),
        Field("coord_ra", "Angle", "rad", "position in ra/dec"),
        Field("coord_dec", "Angle", "rad", "position in ra/dec"),
        Field("parent", "L", "", "unique ID of parent source"),
        Field("calib_psfCandidate", "Flag", "", "a candidate for the PSF"),
        Field("calib_psfUsed", "Flag", "", "used for the PSF"),
        Field("deblend_nChild", "I", "", "number of children (each source is one of its own here)"),
        *(Field(f"base_SdssCentroid_{k}", "D", "pixel", f"{k}, with a Gaussian window") for k in "xy"),
        *(Field(f"base_SdssCentroid_{k}Sigma", "F", "pixel", f"1-sigma error of {k}") for k in "xy"),
        Field("base_SdssCentroid_flag", "Flag", "", "no centre found with the window"),
    ]
    for name, doc in _fluxes().items():
        found.append(Field(f"{name}_flux", "D", "count", doc))
        found.append(Field(f"{name}_fluxSigma", "D", "count", f"1-sigma error of {doc}"))
        found.append(Field(f"{name}_flag", "Flag", "", f"failure of {doc}"))
    found.append(Field("base_ClassificationExtendedness_value", "D", "", "1 for extended, 0 for point-like"))
    for flag, plane in FLAGGED.items():
        found.append(Field(f"base_PixelFlags_flag_{flag}", "Flag", "", f"{plane} in the source's pixels"))
        if flag in _CENTRED:
            found.append(Field(f"base_PixelFlags_flag_{flag}Center", "Flag", "", f"{plane} at its centre"))
    return found


def _fluxes() -> dict[str, str]:
    names = {"base_PsfFlux": "flux of the fitted PSF"}
    return names | {
        f"base_CircularApertureFlux_{str(r).replace('.', '_')}": f"flux within {r:g} pixels" for r in RADII
    }


def schema() -> Catalog:
    """The table without rows."""
    return Catalog(fields(), {f.name: np.zeros(0) for f in fields()}, ALIASES)


def build(exposure: Exposure, objects: Objects, fwhm: float, candidates: NDArray[np.int64],
          used: NDArray[np.int64], first_id: int) -> Catalog:  # fmt: skip
    """Measure all objects.

    Parameters
    ----------
    exposure : `diffrun.files.afw.exposure.Exposure`
        With its PSF; its parent pixels begin at 0.
    objects : `Objects`
    fwhm : `float`
        Of the PSF, pixels.
    candidates, used : `numpy.ndarray` of `int64`
        Rows of the objects that were tried for the PSF, and of those used.
    first_id : `int`
        The ids count from here.
    """
    n = len(objects)
    flux, error = psf_fluxes(exposure, objects.x, objects.y)
    ra, dec = exposure.wcs.pixel_to_sky(objects.x, objects.y)
    relative = np.abs(error / np.where(flux != 0, flux, np.nan))
    position = np.sqrt(2) * fwhm / 2.3548 * relative
    columns: dict[str, Any] = {
        "id": np.int64(first_id) + 1 + np.arange(n), "parent": np.zeros(n, np.int64),
        "coord_ra": np.radians(ra), "coord_dec": np.radians(dec),
        "calib_psfCandidate": np.isin(np.arange(n), candidates), "calib_psfUsed": np.isin(np.arange(n), used),
        "deblend_nChild": np.zeros(n, np.int32),
        "base_SdssCentroid_x": objects.x, "base_SdssCentroid_y": objects.y,
        "base_SdssCentroid_xSigma": position, "base_SdssCentroid_ySigma": position,
        "base_SdssCentroid_flag": objects.astray,
        "base_PsfFlux_flux": flux, "base_PsfFlux_fluxSigma": error, "base_PsfFlux_flag": ~np.isfinite(flux),
    }  # fmt: skip
    sigma = np.ascontiguousarray(np.sqrt(exposure.variance))
    hidden = exposure.has("NO_DATA")
    for radius in (*RADII, _APERTURE_FWHM * fwhm):
        name = f"base_CircularApertureFlux_{str(radius).replace('.', '_')}"
        value, noise, flag = _aperture(exposure, objects, radius, sigma, hidden)
        columns |= {f"{name}_flux": value, f"{name}_fluxSigma": noise, f"{name}_flag": flag}
    columns["base_ClassificationExtendedness_value"] = _extended(flux, error, value, noise, used)
    columns |= _pixel_flags(exposure, objects)
    return Catalog(fields(), {f.name: columns[f.name] for f in fields()}, ALIASES)


def psf_fluxes(exposure: Exposure, x: Array, y: Array) -> tuple[Array, Array]:
    """The flux of the PSF at given places by unweighted least squares, and its error; NaN where unknown."""
    kernel = exposure.psf.kernel
    half = kernel.components.shape[1] // 2
    unusable = exposure.has("NO_DATA", "SAT", "BAD", "CR")
    image = np.pad(np.where(unusable, 0, exposure.image), half)
    noise = np.pad(exposure.variance, half)
    good = np.pad(~unusable, half)
    flux, error = np.full(len(x), np.nan), np.full(len(x), np.nan)
    steps = np.arange(2 * half + 1)
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        ix, iy = np.floor(x[part] + 0.5), np.floor(y[part] + 0.5)
        models = np.tensordot(kernel.weights(x[part], y[part]), kernel.components, axes=1)
        down, along = (shift_matrices(2 * half + 1, d) for d in (y[part] - iy, x[part] - ix))
        models = down @ models @ along.transpose(0, 2, 1)
        rows = np.clip(iy.astype(int), 0, exposure.shape[0] - 1)[:, None, None] + steps[None, :, None]
        columns = np.clip(ix.astype(int), 0, exposure.shape[1] - 1)[:, None, None] + steps[None, None, :]
        weight = models * good[rows, columns]
        total = np.sum(weight * models, axis=(1, 2))
        # With less than half of the PSF's weight in sight the flux is a guess.
        seen = total > 0.5 * np.sum(models**2, axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.sum(weight * image[rows, columns], axis=(1, 2)) / total
            spread = np.sqrt(np.sum(weight**2 * noise[rows, columns], axis=(1, 2))) / total
        flux[part], error[part] = np.where(seen, value, np.nan), np.where(seen, spread, np.nan)
    return flux, error


def _aperture(
    exposure: Exposure, objects: Objects, radius: float, sigma: Any, hidden: Any
) -> tuple[Any, ...]:
    if not len(objects):
        return np.zeros(0), np.zeros(0), np.zeros(0, bool)
    flux, error, flag = sep.sum_circle(
        np.ascontiguousarray(exposure.image), objects.x, objects.y, radius, err=sigma, mask=hidden, subpix=5
    )
    return flux, error, flag != 0


def _extended(flux: Array, error: Array, aperture: Array, noise: Array, used: NDArray[np.int64]) -> Array:
    """1 for sources with more light around them than the stars of the PSF have, 0 for others."""
    if not len(flux):
        return np.zeros(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = flux / aperture
        spread = np.abs(ratio) * np.hypot(error / flux, noise / aperture) * 0.5  # both see the same noise
        star = float(np.median(ratio[used])) if len(used) else 1.0
        point = ratio > star * (1 - _EXTENDED) - _EXTENDED_SIGMA * spread
    return np.where(np.isfinite(ratio), np.where(point, 0.0, 1.0), np.nan)


def _pixel_flags(exposure: Exposure, objects: Objects) -> dict[str, Any]:
    """A plane anywhere in the object's pixels, or ("Center") within one pixel of its middle."""
    flags: dict[str, Any] = {}
    n, (ny, nx) = len(objects), exposure.shape
    ix = np.clip(np.rint(objects.x).astype(int), 0, nx - 1)
    iy = np.clip(np.rint(objects.y).astype(int), 0, ny - 1)
    for flag, plane in FLAGGED.items():
        there = exposure.has(plane)
        touched = np.bincount(objects.segments[there], minlength=n + 1)[1 : n + 1] > 0
        centre = ndimage.binary_dilation(there, np.ones((3, 3), bool))[iy, ix] if n else np.zeros(0, bool)
        flags[f"base_PixelFlags_flag_{flag}"] = touched | centre
        if flag in _CENTRED:
            flags[f"base_PixelFlags_flag_{flag}Center"] = centre
    return flags
