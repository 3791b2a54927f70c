# SPDX-License-Identifier: BSD-3-Clause
"""The sources of an image, and those of them that show what a point looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray

from diffrun.engine.smoothpsf import FWHM_PER_SIGMA

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

#: Detection threshold of ``src``, in sigma of the image smoothed with its PSF.
THRESHOLD = 5.0
#: The search for PSF stars: their least S/N, and how many make a lower one unneeded.
_TIERS = ((60.0, 25), (30.0, 12), (15.0, 4), (8.0, 1))
_MOST_STARS = 250
#: Half width of the clump of half-light radii, and of what is taken as part of it.
_CLUMP, _MEMBER = 0.05, 0.08
_MEMBER_FEW = 0.15
#: Slopes of the radius over half the field that are tried, and how many more members one must bring.
_SLOPES = np.linspace(-0.32, 0.32, 9)
_GAIN, _GAIN_LEAST = 1.15, 4
#: Members that a slope and a curve need; rounds; how far the radius may be from its middle.
_LEAST_MEMBERS, _MEMBERS_OF_CURVE, _ROUNDS, _LARGEST_CHANGE = 8, 24, 5, 1.6
_PIXSTACK = 3_000_000


@dataclass(frozen=True)
class Objects:
    """Detected objects, in pixels of the image.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,), float64
        Centres, with a Gaussian window.
    astray : `numpy.ndarray`, (n,), bool
        Where the window ran away, and the plain centre stands instead.
    flux, error : `numpy.ndarray`, (n,), float64
        In an aperture of 1.5 FWHM radius.
    radius : `numpy.ndarray`, (n,), float64
        Of half the light, pixels.
    segments : `numpy.ndarray`, (ny, nx), int32
        Number of the object (from 1) that a pixel belongs to.
    """

    x: Array
    y: Array
    astray: Bool
    flux: Array
    error: Array
    radius: Array
    segments: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def snr(self) -> Array:
        """Signal to noise of the aperture flux."""
        return np.asarray(self.flux / np.maximum(self.error, 1e-30))


def find(image: Image, sigma: Image, hidden: Bool, fwhm: float, threshold: float = THRESHOLD) -> Objects:
    """All objects above the threshold.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Sky at 0, finite.
    sigma : `numpy.ndarray`, (ny, nx), float32
        Noise of each pixel.
    hidden : `numpy.ndarray`, (ny, nx), bool
        Pixels in which nothing is to be found.
    fwhm : `float`
        Of the seeing as far as known, pixels.
    """
    image, sigma = np.ascontiguousarray(image), np.ascontiguousarray(sigma)  # as SEP wants them
    width = fwhm / FWHM_PER_SIGMA
    half = int(3 * width + 1)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.exp(-(x * x + y * y) / (2 * width**2))
    sep.set_extract_pixstack(max(_PIXSTACK, image.size // 4))
    sep.set_sub_object_limit(8192)
    options: dict[str, Any] = {"filter_type": "matched", "deblend_nthresh": 32, "deblend_cont": 0.003}
    found, segments = sep.extract(
        image, threshold, err=sigma, mask=hidden, filter_kernel=kernel, minarea=3, clean=False,
        segmentation_map=True, **options,
    )  # fmt: skip
    return _measured(image, sigma, hidden, found, segments, fwhm)


def _measured(image: Image, sigma: Image, hidden: Bool, found: Any, segments: Any, fwhm: float) -> Objects:
    x, y = np.asarray(found["x"], float), np.asarray(found["y"], float)
    width = np.full(len(x), fwhm / FWHM_PER_SIGMA)
    if not len(x):
        none = np.zeros(0)
        return Objects(x, y, np.zeros(0, bool), none, none, none, np.asarray(segments, np.int32))
    wx, wy, flag = sep.winpos(image, x, y, width, mask=hidden)
    astray = (np.hypot(wx - x, wy - y) > max(1.0, 0.5 * fwhm)) | ~np.isfinite(wx + wy) | (flag > 15)
    wx, wy = np.where(astray, x, wx), np.where(astray, y, wy)
    flux, error, _ = sep.sum_circle(image, wx, wy, 1.5 * fwhm, err=sigma, mask=hidden)
    radius, _ = sep.flux_radius(image, wx, wy, np.full(len(x), 4 * fwhm), 0.5, mask=hidden)
    return Objects(wx, wy, astray, flux, error, radius, np.asarray(segments, np.int32))


def half_light(objects: Objects, usable: Bool) -> float:
    """The half-light radius of the stars, NaN if no object could be one."""
    for least, needed in _TIERS:
        chosen = usable & (objects.snr > least) & (objects.radius > 0.3)
        if chosen.sum() >= max(needed // 2, 1):
            return clump(objects.radius[chosen])
    return float("nan")


def clump(radii: Array) -> float:
    """The middle of the densest clump of half-light radii; the smallest one where there is no clump."""
    ordered = np.sort(radii)
    inside = np.array([np.sum(np.abs(ordered / r - 1) < _CLUMP) for r in ordered])
    best = int(np.argmax(inside))
    return float(np.median(ordered[np.abs(ordered / ordered[best] - 1) < _CLUMP]))


def select(
    objects: Objects, spoilt: Bool, half: int, fwhm: float
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """The objects from which the PSF is measured, brightest first.

    Parameters
    ----------
    objects : `Objects`
    spoilt : `numpy.ndarray`, (ny, nx), bool
        Pixels that no star may have in its core.
    half : `int`
        Half width of the stamps, that must lie in the image.
    fwhm : `float`
        Pixels.

    Returns
    -------
    rows : `numpy.ndarray`, (n,), int64
    rejected : `dict`
        How many objects were left out, by cause.
    """
    ny, nx = objects.segments.shape
    rejected: dict[str, int] = {}
    keep = np.ones(len(objects), bool)

    def ask(good: Bool, cause: str) -> None:
        nonlocal keep
        if (keep & ~good).any():
            rejected[cause] = int(np.sum(keep & ~good))
        keep = keep & good

    core = int(np.ceil(1.2 * fwhm)) + 1
    border = min(half, core + 2)
    ask(objects.snr > _TIERS[-1][0], "faint")
    inside = (objects.x > border) & (objects.x < nx - 1 - border)
    ask(inside & (objects.y > border) & (objects.y < ny - 1 - border), "near the border")
    ask(np.array([_clean(spoilt, x, y, core) for x, y in zip(objects.x, objects.y, strict=True)], bool),
        "saturated or spoilt")  # fmt: skip
    ask(~objects.astray & (objects.radius > 0.3), "without a centre")
    ask(_alone(objects, keep, half, fwhm), "with a neighbour")
    ask(_tier(objects, keep), "fainter than needed")
    if keep.any():
        width = _MEMBER if keep.sum() > 8 else _MEMBER_FEW
        expected = locus(objects, keep)
        ask(np.abs(objects.radius / expected - 1) < width, "not of the size of the stars")
    rows = np.nonzero(keep)[0]
    return rows[np.argsort(-objects.flux[rows], kind="stable")][:_MOST_STARS], rejected


def locus(objects: Objects, keep: Bool) -> Array:
    """The half-light radius that a star has at the place of each object, (n,).

    It is the same everywhere, unless a radius that changes over the field makes members of many more objects:
    the slope with the densest clump, and then the polynomial of second order (of first, of few) through its
    members, again and again.
    """
    radius, (ny, nx) = objects.radius, objects.segments.shape
    everywhere = np.full(len(objects), clump(radius[keep]))
    u, v = 2 * objects.x / nx - 1, 2 * objects.y / ny - 1

    def members(expected: Array) -> Bool:
        return np.asarray(keep & (np.abs(radius / expected - 1) < _MEMBER))

    tilts = [1 + a * u + b * v for a in _SLOPES for b in _SLOPES]
    tilt = max(tilts, key=lambda each: _densest(radius[keep] / each[keep]) if each[keep].min() > 0.4 else 0)
    expected = tilt * clump(radius[keep] / tilt[keep])
    for _ in range(_ROUNDS):
        chosen = members(expected)
        if chosen.sum() < _LEAST_MEMBERS:
            return everywhere
        terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
        terms = terms[:, : 6 if chosen.sum() >= _MEMBERS_OF_CURVE else 3]
        solution = np.linalg.lstsq(terms[chosen], radius[chosen], rcond=None)[0]
        middle = float(np.median(radius[chosen]))
        expected = np.clip(terms @ solution, middle / _LARGEST_CHANGE, middle * _LARGEST_CHANGE)
    flat, curved = int(members(everywhere).sum()), int(members(expected).sum())
    return expected if curved >= max(_GAIN * flat, flat + _GAIN_LEAST) else everywhere


def _densest(radii: Array) -> int:
    """How many lie in the densest clump."""
    ordered = np.sort(radii)
    lower, upper = (np.searchsorted(ordered, ordered * edge) for edge in (1 - _CLUMP, 1 + _CLUMP))
    return int((upper - lower).max())


def _tier(objects: Objects, keep: Bool) -> Bool:
    """The brightest objects that are enough."""
    for least, needed in _TIERS:
        good = objects.snr > least
        if (keep & good).sum() >= needed:
            return np.asarray(good)
    return np.ones(len(objects), bool)


def _clean(spoilt: Bool, x: float, y: float, core: int) -> bool:
    ix, iy = round(float(x)), round(float(y))
    return not bool(spoilt[max(iy - core, 0) : iy + core + 1, max(ix - core, 0) : ix + core + 1].any())


def _alone(objects: Objects, keep: Bool, half: int, fwhm: float) -> Bool:
    """No neighbour of a twentieth of its flux within 3 FWHM, nor of half its flux within the stamp."""
    good = np.zeros(len(objects), bool)
    for i in np.nonzero(keep)[0]:
        distance = np.hypot(objects.x - objects.x[i], objects.y - objects.y[i])
        distance[i] = np.inf
        near = (distance < 3 * fwhm) & (objects.flux > 0.05 * objects.flux[i])
        good[i] = not np.any(near | ((distance < half + fwhm) & (objects.flux > 0.5 * objects.flux[i])))
    return good
