# SPDX-License-Identifier: BSD-3-Clause
"""One detection for all: a matched filter with the difference's own variance and PSF, so that images compare.

A source is a connected region of more than 5 sigma in either sign, at its strongest pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import label, maximum_filter, shift
from subject import Sources, Subject

Image = NDArray[np.float32]

NEAR_SPOILT = 3  # pixels; a spoilt one within flags a source


def filtered(image: Image, variance: Image, psf: NDArray[np.float64]) -> tuple[Image, Image]:
    """Flux and its error of a point at each pixel: sum(P D / V) / sum(P^2 / V), unusable pixels left out."""
    usable = np.isfinite(image) & np.isfinite(variance) & (variance > 0) & (variance < 1e20)
    weight = np.where(usable, 1 / np.where(usable, variance, 1), 0).astype(np.float32)
    top = _correlate(np.where(usable, image, 0) * weight, psf)
    bottom = np.maximum(_correlate(weight, psf**2), np.float32(1e-12))
    return top / bottom, 1 / np.sqrt(bottom)


def _correlate(image: Image, kernel: NDArray[np.float64]) -> Image:
    half = kernel.shape[0] // 2
    shape = tuple(next_fast_len(n + 2 * half, real=True) for n in image.shape)
    padded = np.zeros(shape, np.float32)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    spectrum = np.conj(rfft2(np.roll(padded, (-half, -half), (0, 1)))) * rfft2(image, shape)
    return np.asarray(irfft2(spectrum, shape)[: image.shape[0], : image.shape[1]], np.float32)


def detect(subject: Subject, scatter: float = 1.0) -> Sources:
    """Sources of the difference, with the flux of a PSF at the place of each.

    ``scatter`` is what the filter has on blank sky in place of 1: the threshold is so much higher.
    """
    ny, nx = subject.image.shape
    flux, error = filtered(subject.image, subject.variance, subject.psf(nx / 2, ny / 2))
    height = np.abs(flux / error)
    regions, number = label(height > subject.threshold * scatter, np.ones((3, 3)))
    rows, columns = np.nonzero(regions)
    strength, region = height[rows, columns], regions[rows, columns]
    order = np.lexsort((-strength, region))
    first = order[np.unique(region[order], return_index=True)[1]] if number else order
    y, x = rows[first], columns[first]
    bad = maximum_filter(subject.spoilt, 2 * NEAR_SPOILT + 1)[y, x]
    centre = np.array([_centre(height, *at) for at in zip(y, x, strict=True)]).reshape(-1, 2)
    measured = np.array([point_flux(subject, *at) for at in centre]).reshape(-1, 2)
    return Sources(
        centre[:, 0], centre[:, 1], measured[:, 0], measured[:, 1], bad, np.full(len(x), np.nan)
    )  # fmt: skip


def point_flux(subject: Subject, x: float, y: float) -> tuple[float, float]:
    """Flux of the PSF at a place, every pixel with the same weight, and its error; NaN near the edge."""
    psf = subject.psf(x, y)
    half, column, row = psf.shape[0] // 2, round(x), round(y)
    box = np.s_[row - half : row + half + 1, column - half : column + half + 1]
    image, variance = subject.image[box], subject.variance[box]
    if row < half or column < half or image.shape != psf.shape:
        return np.nan, np.nan
    psf = shift(psf, (y - row, x - column))
    usable = np.isfinite(image) & (variance > 0) & (variance < 1e20)
    power = (psf[usable] ** 2).sum()
    flux = (psf[usable] * image[usable]).sum() / power
    return float(flux), float(np.sqrt((psf[usable] ** 2 * variance[usable]).sum()) / power)


def _centre(height: Image, row: int, column: int) -> tuple[float, float]:
    """The top of the parabola through the strongest pixel and its neighbours."""
    place = []
    for axis, at in ((1, column), (0, row)):
        if not 0 < at < height.shape[axis] - 1:
            place.append(float(at))
            continue
        line = height[row, at - 1 : at + 2] if axis else height[at - 1 : at + 2, column]
        bend = line[0] - 2 * line[1] + line[2]
        place.append(at + float(np.clip(0.5 * (line[0] - line[2]) / bend, -1, 1) if bend < 0 else 0.0))
    return place[0], place[1]
