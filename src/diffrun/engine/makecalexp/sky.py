# SPDX-License-Identifier: BSD-3-Clause
"""The sky and its noise over an image, from what lies between the sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.special import ndtri

from diffrun.files.afw.background import Background, Layer

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

#: Pixels on a side of a background bin, and of one in which noise is measured.
BIN = 128
_NOISE_BIN = 256
#: Pixels that tell the noise of a bin.
_ENOUGH = 2000
#: Most by which the noise may differ from place to place.
_NOISE_RANGE = 8.0
_CENTRAL = (0.1587, 0.8413)


@dataclass(frozen=True)
class Sky:
    """The sky of an image.

    Attributes
    ----------
    background : `diffrun.files.afw.background.Background`
        As it is stored beside the calexp.
    level : `numpy.ndarray`, (ny, nx), float32
        The same at each pixel.
    sigma : `numpy.ndarray`, (ny, nx), float32
        Noise of one pixel without sources.
    """

    background: Background
    level: Image
    sigma: Image


def measure(image: Image, ignored: Bool, step: float = 0.0, stride: int = 1, size: int = BIN) -> Sky:
    """The sky outside the ignored pixels.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Finite where not ignored.
    ignored : `numpy.ndarray`, (ny, nx), bool
        Sources, and pixels that cannot be used.
    step : `float`
        Distance of neighbouring values, of which the noise must know.
    stride : `int`
        The noise is measured on every so many rows and columns.
    size : `int`
        Pixels on a side of a bin.
    """
    ny, nx = image.shape
    clean = np.where(np.isfinite(image), image, np.float32(0))
    # A constant far above the noise would cost SEP's float32 sums their last digits.
    offset = np.float32(np.median(clean[~ignored][::17])) if not ignored.all() else np.float32(0)
    clean = np.ascontiguousarray(clean - offset)
    mesh = sep.Background(clean, mask=ignored, bw=min(size, nx), bh=min(size, ny), fw=3, fh=3)
    bins = tuple(max(1, round(n / size)) for n in (ny, nx))
    at = [
        np.clip(((np.arange(b) + 0.5) * n / b).astype(int), 0, n - 1)
        for b, n in zip(bins, (ny, nx), strict=True)
    ]
    statistics = (mesh.back(dtype=np.float32)[np.ix_(*at)] + offset).astype(np.float32)
    layer = Layer(statistics, np.ones_like(statistics), (0, 0, nx, ny), "NATURAL_SPLINE")
    background = Background((layer,))
    level = background.image((ny, nx))
    return Sky(background, level, _noise(image - level, ignored, step, stride))


def robust_sigma(values: NDArray[np.floating], step: float = 0.0) -> float:
    """Half of the central 68.27 %, which a few sources do not move.

    Values on a grid are spread over their steps first; the share of the rounding in their variance is real.
    """
    sample = np.asarray(values, np.float32)
    if step > 0:
        spread = np.random.default_rng(0).random(sample.shape, np.float32)
        sample = sample + (spread - np.float32(0.5)) * np.float32(step)
    if len(sample) < 3:
        return float("nan")
    low, high = np.quantile(sample, _CENTRAL)
    sigma = (high - low) / (2 * float(ndtri(_CENTRAL[1])))
    return float(np.sqrt(max(sigma**2 - step**2 / 12, 0.0)))


def _noise(image: Image, ignored: Bool, step: float, stride: int) -> Image:
    """The noise in large bins, joined smoothly."""
    ny, nx = image.shape
    bins = tuple(max(1, round(n / _NOISE_BIN)) for n in (ny, nx))
    sample, hidden = image[::stride, ::stride], ignored[::stride, ::stride]
    whole = robust_sigma(sample[~hidden], step)
    grid = np.full(bins, whole)
    edges = [np.linspace(0, n, b + 1).astype(int) for n, b in zip(sample.shape, bins, strict=True)]
    for j in range(bins[0]):
        for i in range(bins[1]):
            box = np.s_[edges[0][j] : edges[0][j + 1], edges[1][i] : edges[1][i + 1]]
            values = sample[box][~hidden[box]]
            if len(values) > _ENOUGH:
                grid[j, i] = robust_sigma(values, step)
    grid = np.clip(grid, whole / _NOISE_RANGE, whole * _NOISE_RANGE).astype(np.float32)
    layer = Layer(grid, np.ones_like(grid), (0, 0, nx, ny), "LINEAR")
    return np.ascontiguousarray(np.clip(layer.image(), grid.min(), grid.max()))
