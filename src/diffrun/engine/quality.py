# SPDX-License-Identifier: BSD-3-Clause
"""Numbers that tell whether a difference image is good, from its products alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.fitsread import forget

#: Pixels with any of these planes are no blank sky.
NOT_SKY = (
    "BAD",
    "SAT",
    "SAT_TEMPLATE",
    "EDGE",
    "NO_DATA",
    "DETECTED",
    "DETECTED_NEGATIVE",
    "INTRP",
    "CR",
    "SUSPECT",
)
#: Pixels with any of these planes hold no light that could be compared.
NO_LIGHT = ("BAD", "SAT", "SAT_TEMPLATE", "EDGE", "NO_DATA", "INTRP", "CR")

_ENOUGH, _BAND, _FEWEST = 1 << 20, 32, 1000
#: Part of their light that bright stars may leave.
BAD_MATCH = 0.02
#: Of each number of the engine how far it may be from its ideal, and what it means if it is farther.
_LIMITS = (
    ("noise", 0.03, "the noise of blank sky is {:.3f} times what the variance plane says"),
    ("k", 0.05, "significances scatter by {:.3f} on blank sky, where 1 is right"),
    ("modelError", BAD_MATCH, "bright stars leave {:.1%} of their light"),
    ("psfFlux", 0.02, "stars have {:.3f} times their light by the PSF, which is wrong"),
    ("fluxScale", 0.05, "the flux scale of the stars is {:.3f} times that of the zero points"),
)

_ONE_SIGMA = (15.865525, 84.134475)

Pixel = TypeVar("Pixel", bound=np.generic)

_STAR_RADIUS = 6.0
_STAR_SNR = (20.0, 1000.0)
_STAR_FLAGS = (
    "base_PixelFlags_flag_edge",
    "base_PixelFlags_flag_saturated",
    "base_PixelFlags_flag_interpolated",
    "base_PixelFlags_flag_cr",
    "base_PixelFlags_flag_bad",
)
_SOURCE_FLAGS = (
    "base_PixelFlags_flag_edge",
    "base_PixelFlags_flag_saturated",
    "base_PixelFlags_flag_bad",
    "base_PixelFlags_flag_interpolatedCenter",
    "base_PixelFlags_flag_crCenter",
)

POSITIVE, NEGATIVE, DIPOLE = 0, 1, 2

Bool = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sky:
    """Where the statistics of blank sky look.

    Attributes
    ----------
    rows : `numpy.ndarray`, (n_bands, rows of a band), int
    blank : `numpy.ndarray`, (n_bands, rows of a band, nx), bool
        Pixels of these rows with no source and no defect.
    """

    rows: NDArray[np.intp]
    blank: Bool

    def of(self, plane: NDArray[Pixel]) -> NDArray[Pixel]:
        """The values of a plane, (ny, nx), on blank sky, (n,)."""
        return plane[self.rows][self.blank]


@dataclass(frozen=True)
class Sources:
    """What is shown and counted of each DIA source.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,), float64
        Parent pixels, of the peak where the centroid failed.
    kind : `numpy.ndarray`, (n,), int8
        `POSITIVE`, `NEGATIVE` or `DIPOLE`.
    flagged : `numpy.ndarray`, (n,), bool
        Where the centre or the footprint has bad pixels.
    snr : `numpy.ndarray`, (n,), float64
        Signed S/N of the PSF flux, 0 where it has none.
    """

    x: Array
    y: Array
    kind: NDArray[np.int8]
    flagged: Bool
    snr: Array

    @classmethod
    def none(cls) -> Sources:
        """No sources."""
        nothing = np.zeros(0)
        return cls(nothing, nothing, nothing.astype(np.int8), nothing.astype(bool), nothing)

    def counts(self) -> dict[str, int]:
        """How many there are of each kind, and how many of them all are flagged."""
        return {
            "total": len(self.x),
            "positive": int(np.sum(self.kind == POSITIVE)),
            "negative": int(np.sum(self.kind == NEGATIVE)),
            "dipole": int(np.sum(self.kind == DIPOLE)),
            "flagged": int(np.sum(self.flagged)),
        }


def sources(catalog: Catalog, difference: Exposure) -> Sources:
    """Read positions, kinds and flags from a diaSrc catalogue of the engine or of the stack."""
    flux, error = catalog.flux("slot_PsfFlux")
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.nan_to_num(np.asarray(flux / error, float), nan=0.0, posinf=0.0, neginf=0.0)
    x, y = _positions(catalog, difference)
    dipole = _flag(catalog, "ip_diffim_DipoleFit_flag_classification")
    negative = np.where(snr == 0, _flag(catalog, "flags_negative"), snr < 0)
    kind = np.where(dipole, DIPOLE, np.where(negative, NEGATIVE, POSITIVE)).astype(np.int8)
    flagged = np.zeros(len(catalog), bool)
    for name in _SOURCE_FLAGS:
        flagged |= _flag(catalog, name)
    return Sources(x, y, kind, flagged, snr)


def _positions(catalog: Catalog, difference: Exposure) -> tuple[Array, Array]:
    """Centroids, or the sky positions carried into pixels where a centroid is not finite."""
    x = np.array(catalog["slot_Centroid_x"], float)
    y = np.array(catalog["slot_Centroid_y"], float)
    lost = ~(np.isfinite(x) & np.isfinite(y))
    if lost.any() and difference.wcs is not None:
        ra, dec = (np.degrees(np.asarray(catalog[name], float)[lost]) for name in ("coord_ra", "coord_dec"))
        x[lost], y[lost] = difference.wcs.sky_to_pixel(ra, dec)
    return x, y


def _flag(catalog: Catalog, name: str) -> Bool:
    """A flag column, all false if this catalogue does not have it."""
    return np.asarray(catalog[name], bool) if name in catalog.names else np.zeros(len(catalog), bool)


def blank_sky(difference: Exposure, science: Exposure) -> Sky:
    """Pixels with no source and no defect in either image.

    All rows are looked at, as one band, of an image up to 1 megapixel; of a larger one as many, evenly over
    the image: that gives its noise to a thousandth, in a sixteenth of the time on a sensor.
    """
    ny, nx = difference.shape
    if ny * nx > _ENOUGH and ny > _BAND:
        tops = np.linspace(0, ny - _BAND, max(1, round(_ENOUGH / nx / _BAND))).astype(int)
        sky = _blank_rows(difference, science, tops[:, None] + np.arange(_BAND))
        if np.count_nonzero(sky.blank) >= _FEWEST:
            return sky
    return _blank_rows(difference, science, np.arange(ny)[None])


def _blank_rows(difference: Exposure, science: Exposure, rows: NDArray[np.intp]) -> Sky:
    variance = difference.variance[rows]
    blank = np.isfinite(difference.image[rows]) & np.isfinite(variance) & (variance > 0)
    for exposure in (difference, science):
        blank &= ~has(exposure.mask[rows], exposure.bits(*NOT_SKY))
    return Sky(rows, blank)


def has(mask: NDArray[np.signedinteger], bits: int) -> Bool:
    """Where a mask, of any width and order of its bytes, has any of these bits."""
    native = mask.astype(mask.dtype.newbyteorder("="), copy=False)
    return np.asarray(native & native.dtype.type(bits) != 0)


def pull(image: NDArray[np.float32], variance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Difference over the square root of its variance plane, NaN where the variance is not positive."""
    return np.asarray(image / np.sqrt(np.where(variance > 0, variance, np.float32(np.nan))))


def robust_std(values: NDArray[np.floating]) -> float:
    """Half of the distance between the 15.865 and 84.135 percentiles: sigma of a Gaussian."""
    low, high = np.percentile(values, _ONE_SIGMA)
    return float((high - low) / 2)


def noise(difference: Exposure, sky: Sky) -> dict[str, float | int | None]:
    """How true the variance plane is to the noise, and how independent neighbours are.

    Parameters
    ----------
    difference : `Exposure`
    sky : `Sky`
        Pixels to use, from `blank_sky`.

    Returns
    -------
    noise : `dict`
        ``noise_ratio``, the robust standard deviation of the pull (1 is right), ``lag1_correlation``, the
        mean of the correlations with the next pixel in x and in y (0 is right) and ``sky_pixels``, how many
        were looked at; `None` where there are fewer than 1000 pixels of blank sky.
    """
    blank = sky.blank
    count = int(blank.sum())
    if count < _FEWEST:
        return {"noise_ratio": None, "lag1_correlation": None, "sky_pixels": count}
    values = pull(difference.image[sky.rows], difference.variance[sky.rows])
    low, middle, high = np.percentile(values[blank], (_ONE_SIGMA[0], 50.0, _ONE_SIGMA[1]))
    ratio = float((high - low) / 2)
    centred = np.clip(values - np.float32(middle), -5 * ratio, 5 * ratio)
    along_x = _correlation(centred[..., :-1], centred[..., 1:], blank[..., :-1] & blank[..., 1:])
    along_y = _correlation(centred[:, :-1], centred[:, 1:], blank[:, :-1] & blank[:, 1:])
    return {
        "noise_ratio": round(ratio, 4),
        "lag1_correlation": round((along_x + along_y) / 2, 4),
        "sky_pixels": count,
    }


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """What the engine's own numbers say against a subtraction, one line each.

    Parameters
    ----------
    facts : mapping
        The metadata of the run; what is not there is not judged.
    """
    found = []
    foretold = facts.get("imageDifference:subtract.mismatch", 0.0) > BAD_MATCH  # and said by the match
    for name, limit, words in _LIMITS:
        value = facts.get(f"imageDifference:quality.{name}")
        if name == "modelError" and foretold:
            continue
        if isinstance(value, float) and not abs(value - (0 if name == "modelError" else 1)) <= limit:
            found.append(f"this subtraction may be bad: {words.format(value)}")
    return found


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32], use: Bool) -> float:
    a, b = np.where(use, first, np.float32(0)), np.where(use, second, np.float32(0))
    both, one, other = (float((c * d).sum(dtype=float)) for c, d in ((a, b), (a, a), (b, b)))
    return float(both / np.sqrt(one * other))


def star_residuals(difference: Exposure, catalog: Catalog) -> Array:
    """Mean of difference²/variance within 6 px of each unsaturated star of ``src``, (n_stars,).

    A star is an unflagged source of S/N 20 to 1000 that ``base_ClassificationExtendedness`` calls a point
    or, where that is missing, whose size is within 10 % of the PSF's. Stars with any bad pixel in reach
    are left out.
    """
    (ny, nx), (x0, y0) = difference.shape, difference.xy0
    reach = int(np.ceil(_STAR_RADIUS))
    x, y = _stars(catalog, difference)
    column, row = np.rint(x - x0).astype(int), np.rint(y - y0).astype(int)
    whole = (reach <= column) & (column < nx - reach) & (reach <= row) & (row < ny - reach)
    x, y, column, row = (each[whole, None, None] for each in (x, y, column, row))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = np.hypot(dx - (x - x0 - column), dy - (y - y0 - row)) <= _STAR_RADIUS
    stamps = row + dy, column + dx
    squares = pull(difference.image[stamps], difference.variance[stamps]) ** 2
    dark = has(difference.mask[stamps], difference.bits(*NO_LIGHT)) | ~np.isfinite(squares)
    forget(difference.image, difference.variance, difference.mask)
    good = ~(dark & inside).any(axis=(1, 2))
    total = squares.sum(axis=(1, 2), where=inside, dtype=float)
    return np.asarray((total / inside.sum(axis=(1, 2)))[good], float)


def _stars(catalog: Catalog, difference: Exposure) -> tuple[Array, Array]:
    flux, error = catalog.flux("slot_PsfFlux")
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.asarray(flux, float) / np.asarray(error, float)
    x, y = np.asarray(catalog["slot_Centroid_x"], float), np.asarray(catalog["slot_Centroid_y"], float)
    use = (snr > _STAR_SNR[0]) & (snr < _STAR_SNR[1]) & np.isfinite(x) & np.isfinite(y)
    for name in _STAR_FLAGS:
        use &= ~_flag(catalog, name)
    use &= _points(catalog, difference, use)
    return x[use], y[use]


def _points(catalog: Catalog, difference: Exposure, use: Bool) -> Bool:
    """Which sources are points: by extendedness, else by size."""
    if "base_ClassificationExtendedness_value" in catalog.names:
        return np.asarray(np.asarray(catalog["base_ClassificationExtendedness_value"], float) < 0.5)
    size = np.asarray(catalog["slot_Shape_xx"], float) + np.asarray(catalog["slot_Shape_yy"], float)
    if {"base_SdssShape_psf_xx", "base_SdssShape_psf_yy"} <= set(catalog.names):
        point = np.asarray(catalog["base_SdssShape_psf_xx"] + catalog["base_SdssShape_psf_yy"], float)
    elif use.any():
        point = np.full(len(size), np.nanpercentile(size[use], 20))
    else:
        return use
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(np.sqrt(size / point) - 1) < 0.1)
