# SPDX-License-Identifier: BSD-3-Clause
"""Small exposures of known sources in white noise, and footprints as a detection would give them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from diffrun.engine.footprint import Footprint
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf

Floats = NDArray[np.float64]
SIZE = 41
XY0 = (1000, 2000)
#: Points within a pixel, along one axis, over which a profile is averaged.
SUB = (np.arange(3) - 1) / 3


@dataclass(frozen=True)
class Profile:
    """A round Moffat profile of flux 1, averaged over pixels; a Gaussian where ``beta`` is infinite."""

    fwhm: float
    beta: float = 3.5
    norm: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", 1.0)
        object.__setattr__(self, "norm", float(self.stamp(0.0, 0.0).sum()))

    def _value(self, r2: Floats) -> Floats:
        if np.isinf(self.beta):
            return np.exp(-4 * np.log(2) * r2 / self.fwhm**2)
        return (1 + 4 * (2 ** (1 / self.beta) - 1) * r2 / self.fwhm**2) ** -self.beta

    def stamp(self, dx: float, dy: float, size: int = SIZE) -> Floats:
        """The source at an offset from the middle of a stamp."""
        steps = np.arange(size) - size // 2
        x2 = (steps[:, None] + SUB - dx) ** 2
        y2 = (steps[:, None] + SUB - dy) ** 2
        r2 = y2[:, :, None, None] + x2[None, None]
        return self._value(r2).mean(axis=(1, 3)) / self.norm

    @property
    def psf(self) -> KernelPsf:
        """The profile as the PSF of an exposure, the same everywhere."""
        kernel = LinearCombinationKernel(self.stamp(0.0, 0.0)[None], np.ones((1, 1)), (0.0, 0.0, 4e3, 4e3))
        return KernelPsf(kernel, (XY0[0] + 100.0, XY0[1] + 100.0))

    def sigma_of_flux(self, variance: float) -> float:
        """Error of an ideal matched filter in white noise."""
        return float(np.sqrt(variance / (self.stamp(0.0, 0.0) ** 2).sum()))


@dataclass(frozen=True)
class LinearWcs:
    """0.2 arcsec pixels about a point near the equator, without projection."""

    def pixel_to_sky(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        return 53.0 + (np.asarray(x) - XY0[0]) * 0.2 / 3600, -0.5 + (np.asarray(y) - XY0[1]) * 0.2 / 3600


def draw(shape: tuple[int, int], profile: Profile, x: Any, y: Any, flux: Any) -> Floats:
    """Sources at parent positions on an empty image."""
    image = np.zeros(shape)
    half = SIZE // 2
    padded = np.pad(image, half)
    for px, py, f in zip(np.atleast_1d(x), np.atleast_1d(y), np.atleast_1d(flux), strict=True):
        i, j = int(np.floor(py + 0.5)), int(np.floor(px + 0.5))
        row, column = i - XY0[1], j - XY0[0]
        padded[row : row + SIZE, column : column + SIZE] += f * profile.stamp(px - j, py - i)
    return padded[half:-half, half:-half]


def exposure(image: Floats, variance: float, profile: Profile) -> Exposure:
    """An exposure of constant variance."""
    return Exposure(
        image.astype(np.float32),
        np.zeros(image.shape, np.int32),
        np.full(image.shape, variance, np.float32),
        LinearWcs(),
        profile.psf,
        XY0,
    )


def matched_filter(image: Floats, variance: float, profile: Profile) -> Floats:
    """Detection S/N of every pixel."""
    psf = profile.stamp(0.0, 0.0)
    clean = np.nan_to_num(image.astype(float), posinf=0.0)
    return fftconvolve(clean, psf, mode="same") / np.sqrt(variance * (psf**2).sum())


def footprint(snr: Floats, x: float, y: float, radius: float = 6.0, reach: int = 2) -> Footprint:
    """A disc about a parent position, with the largest |S/N| near it as its only peak."""
    left, bottom = int(max(x - XY0[0] - radius, 0)), int(max(y - XY0[1] - radius, 0))
    window = snr[bottom : bottom + int(2 * radius) + 2, left : left + int(2 * radius) + 2]
    rows, columns = np.mgrid[: window.shape[0], : window.shape[1]]
    near = np.hypot(columns + left + XY0[0] - x, rows + bottom + XY0[1] - y)
    at = np.unravel_index(np.argmax(np.where(near <= reach + 0.5, np.abs(window), -1.0)), window.shape)
    disc = spans(near <= radius) + np.array([bottom, left, left], np.int32)
    peaks = np.array([at[1] + left]) + XY0[0], np.array([at[0] + bottom]) + XY0[1]
    return Footprint(disc, *peaks, window[at][None])


def blend(snr: Floats, x: Any, y: Any, radius: float = 8.0, reach: int = 4) -> Footprint:
    """A disc about the middle of a dipole, with its highest and its lowest pixel as peaks."""
    rows, columns = np.mgrid[: snr.shape[0], : snr.shape[1]]
    near = np.hypot(columns + XY0[0] - np.mean(x), rows + XY0[1] - np.mean(y))
    inside = near <= reach + 0.5
    high = np.unravel_index(np.argmax(np.where(inside, snr, -np.inf)), snr.shape)
    low = np.unravel_index(np.argmin(np.where(inside, snr, np.inf)), snr.shape)
    return Footprint(
        spans(near <= radius),
        np.array([high[1], low[1]]) + XY0[0],
        np.array([high[0], low[0]]) + XY0[1],
        np.array([snr[high], snr[low]]),
    )


def spans(inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Rows y, x0, x1 in parent pixels of a region."""
    runs = []
    for row in np.nonzero(inside.any(axis=1))[0]:
        columns = np.nonzero(inside[row])[0]
        for run in np.split(columns, np.nonzero(np.diff(columns) > 1)[0] + 1):
            runs.append((row + XY0[1], run[0] + XY0[0], run[-1] + XY0[0]))
    return np.array(runs, np.int32)


def config(**dipole: Any) -> Any:
    """The part of the configuration that measurement reads, with the stack's defaults."""
    fit = {
        "fitAllDiaSources": 0.0, "maxSeparation": 5.0, "relWeight": 0.5, "tolerance": 1e-7,
        "fitBackground": 1, "fitSeparateNegParams": False, "minSn": 50**0.5, "maxFluxRatio": 0.65, **dipole,
    }  # fmt: skip
    plugins = {
        "ip_diffim_DipoleFit": SimpleNamespace(**fit),
        "ip_diffim_ClassificationDipole": SimpleNamespace(minSn=50**0.5, maxFluxRatio=0.65),
    }
    return SimpleNamespace(measurement=SimpleNamespace(plugins=plugins))
