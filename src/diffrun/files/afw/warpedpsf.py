# SPDX-License-Identifier: BSD-3-Clause
"""Point spread functions seen through a map: afw's ``WarpedPsf``, and ``CoaddPsf``, a mean of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.astmaps import Mapping
from diffrun.files.afw.exposure import Psf, Wcs
from diffrun.files.afw.psf import psf_image

Array = NDArray[np.float64]
_MAX_SCALE = 200.0
_MAX_HALF = 500


@dataclass(frozen=True)
class WarpedPsf:
    """A PSF as it looks after a map of its pixels to others.

    Attributes
    ----------
    psf : `Psf`
        The PSF before.
    distortion : `Mapping`
        From its pixels to those of this PSF.
    order : `int`
        Of the Lanczos kernel by which it is resampled.
    cache : `int`
        Into how many steps a pixel is cut when the Lanczos weights are taken; 0 for exact ones.
    """

    psf: Psf
    distortion: Mapping
    order: int
    cache: int = 0

    @property
    def average_position(self) -> tuple[float, float]:
        """Where the PSF before has its own."""
        x, y = self.distortion.forward(np.array([self.psf.average_position]).T)[:, 0]
        return float(x), float(y)

    def kernel_image(self, x: float, y: float) -> Array:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1."""
        whole = np.floor(np.array([x, y]) + 0.5)
        step = np.array([[x, x + 0.5, x - 0.5, x, x], [y, y, y, y + 0.5, y - 0.5]])
        at = self.distortion.inverse(step)
        inward = np.stack([at[:, 1] - at[:, 2], at[:, 3] - at[:, 4]], axis=1)
        if not np.isfinite(at).all() or np.linalg.det(inward) == 0:
            raise DataError(f"the PSF has no place in its input for pixel ({x:g}, {y:g})", "correct its WCS")
        # The star before falls where the middle of the nearest whole pixel comes from, as in today's stack.
        source = at[:, 0] + inward @ (whole - [x, y])
        star, x0, y0 = psf_image(self.psf, float(source[0]), float(source[1]))
        image = warped(star, inward, source - [x0, y0], self.order, self.cache)
        return np.asarray(image / image.sum())


@dataclass(frozen=True)
class Input:
    """One of the images that a coadd was made of.

    Attributes
    ----------
    psf, wcs : `Psf`, `Wcs`
    box : `tuple` of `int`
        ``(min_x, min_y, max_x, max_y)``, both ends included, in its own pixels.
    polygon : `numpy.ndarray`, (n, 2), float64, or `None`
        Corners within which it was used, in its own pixels.
    weight : `float`
    """

    psf: Psf
    wcs: Wcs
    box: tuple[int, int, int, int]
    polygon: Array | None
    weight: float

    def distance(self, x: float, y: float) -> float:
        """How far a pixel of its own lies outside, 0 for one inside."""
        if not (np.isfinite(x) and np.isfinite(y)):
            return np.inf
        left, bottom, right, top = np.add(self.box, (-0.5, -0.5, 0.5, 0.5))
        if not (left <= x < right and bottom <= y < top):
            return float(max(left - x, x - right, bottom - y, y - top, 1e-9))
        return 0.0 if self.polygon is None or _inside(self.polygon, x, y) else 1e-9


@dataclass(frozen=True)
class CoaddPsf:
    """The weighted mean of the PSFs of the images that cover a place of a coadd.

    Attributes
    ----------
    inputs : `tuple` of `Input`
    wcs : `Wcs`
        The coadd's own.
    order, cache : `int`
        As of `WarpedPsf`.
    """

    inputs: tuple[Input, ...]
    wcs: Wcs
    average_position: tuple[float, float]
    order: int
    cache: int = 0

    def kernel_image(self, x: float, y: float) -> Array:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1.

        Where there is no input, as in a hole of the coadd, the nearest ones stand in (afw raises there).
        """
        ra, dec = self.wcs.pixel_to_sky(np.array([x]), np.array([y]))
        places = [one.wcs.sky_to_pixel(ra, dec) for one in self.inputs]
        away = np.array(
            [
                one.distance(float(px[0]), float(py[0]))
                for one, (px, py) in zip(self.inputs, places, strict=True)
            ]
        )
        nearest = float(away.min(initial=np.inf))
        if not np.isfinite(nearest):
            raise DataError(f"no input of the coadd is near its pixel ({x:g}, {y:g})", "correct its WCS")
        images, weights = [], []
        for one, distance in zip(self.inputs, away, strict=True):
            if distance <= nearest + (nearest > 0):
                map_ = _Between(one.wcs, self.wcs)
                images.append(WarpedPsf(one.psf, map_, self.order, self.cache).kernel_image(x, y))
                weights.append(one.weight)
        shape = tuple(max(image.shape[axis] for image in images) for axis in (0, 1))
        total = np.zeros(shape)
        for image, weight in zip(images, weights, strict=True):
            rows, columns = ((n - m) // 2 for n, m in zip(shape, image.shape, strict=True))
            total[rows : rows + image.shape[0], columns : columns + image.shape[1]] += weight * image
        return np.asarray(total / total.sum())


@dataclass(frozen=True)
class _Between:
    """From the pixels of one image to those of another, by way of the sky."""

    first: Wcs
    second: Wcs
    n_in: int = 2
    n_out: int = 2

    def forward(self, points: Array) -> Array:
        return np.stack(self.second.sky_to_pixel(*self.first.pixel_to_sky(*points)))

    def inverse(self, points: Array) -> Array:
        return np.stack(self.first.sky_to_pixel(*self.second.pixel_to_sky(*points)))


def warped(image: Array, inward: Array, middle: Array, order: int, cache: int = 0) -> Array:
    """An image resampled through a linear map, as afw's ``warpImage`` does.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float64
        Zero outside.
    inward : `numpy.ndarray`, (2, 2), float64
        From the new offsets (x, y) to those of ``image``.
    middle : `numpy.ndarray`, (2,), float64
        The place (x, y) in ``image`` that comes onto the middle pixel.
    order : `int`
        Of the Lanczos kernel.
    cache : `int`
        Steps of a pixel at which its weights are taken, in the middle of each; 0 for exact ones.

    Returns
    -------
    image : `numpy.ndarray`, (my, mx), float64
        Odd sides: the box of all of ``image``'s pixels, edges included, rounded down.
    """
    outward = np.linalg.inv(inward)
    if not np.abs(outward).max() < _MAX_SCALE:
        raise DataError("a PSF is warped by more than a factor of 200", "correct its WCS")
    ny, nx = image.shape
    half_x, half_y = (int(n) for n in np.floor(np.abs(outward) @ [nx / 2, ny / 2]))
    if max(half_x, half_y) > _MAX_HALF:
        raise DataError(f"a warped PSF has {2 * half_x + 1} x {2 * half_y + 1} pixels", "correct its WCS")
    offsets = np.mgrid[-half_y : half_y + 1, -half_x : half_x + 1][::-1].reshape(2, -1)
    places = inward @ offsets + middle[:, np.newaxis]
    whole = np.floor(places).astype(int)
    fraction = places - whole
    if cache:
        fraction = (np.floor(fraction * cache) + 0.5) / cache
    taps = np.arange(1 - order, order + 1)
    weights = np.sinc(taps - fraction[:, :, np.newaxis]) * np.sinc(
        (taps - fraction[:, :, np.newaxis]) / order
    )
    weights /= weights.sum(axis=2, keepdims=True)
    # afw puts so many zeros around the image that these places have all their taps; others are 0.
    near = ((whole >= -2) & (whole <= np.array([[nx], [ny]]))).all(axis=0)
    padded = np.pad(image, order + 2)
    x, y = np.where(near, whole, 0)[:, :, np.newaxis] + taps + order + 2
    pixels = padded[y[:, :, np.newaxis], x[:, np.newaxis, :]]
    values = np.einsum("pij,pi,pj->p", pixels, weights[1], weights[0])
    return np.where(near, values, 0.0).reshape(2 * half_y + 1, 2 * half_x + 1)


def _inside(polygon: Array, x: float, y: float) -> bool:
    """Whether a point lies in a polygon, by the parity of crossings."""
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    crosses = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return bool(np.count_nonzero(crosses & (x < at)) % 2)
