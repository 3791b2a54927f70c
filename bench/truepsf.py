# SPDX-License-Identifier: BSD-3-Clause
"""The true PSF: a radial profile, stretched by a size and an ellipticity that vary over the sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from conditions import SCALE, STAMP, Night
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import gamma, j0, rgamma

from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms
from diffrun.files.afw.psf import KernelPsf

Array = NDArray[np.float64]

STEP = 0.004  # of the profile's table, FWHM
REACH = 90.0  # of the table, FWHM
WINGS = 6.0  # FWHM from which the wings' own series is used
#: 3.44 f0^(-5/3) for a FWHM of 1: f0 = 0.976 (Racine 1996).
_BLUR = 3.44 * 0.9758634299 ** (-5 / 3)
MODEL_ORDER = 3  # of the Chebyshev polynomials of the PSF in the file


@cache
def table(beta: float) -> Array:
    """The profile at multiples of `STEP`, for a FWHM of 1 and an integral over the plane of 1."""
    radius = np.arange(0.0, REACH, STEP)
    if beta:
        core = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
        return np.asarray((beta - 1) / (np.pi * core**2) * (1 + (radius / core) ** 2) ** -beta)
    core = np.linspace(0, WINGS, 900)
    inner = CubicSpline(core, np.log(_kolmogorov(core)))(np.minimum(radius, WINGS))
    return np.asarray(np.where(radius < WINGS, np.exp(inner), _wings(np.maximum(radius, WINGS))))


def _kolmogorov(radius: Array) -> Array:
    """Long exposure through Kolmogorov turbulence: the transform of exp(-3.44 (f/f0)^(5/3)), Fried 1966."""
    f = np.linspace(0, 4.0, 20001)
    weight = 2 * np.pi * f * np.exp(-_BLUR * f ** (5 / 3)) * f[1]
    return np.array([np.dot(weight, j0(2 * np.pi * f * r)) for r in radius])


def _wings(radius: Array) -> Array:
    """The transform far out: that of the first powers of f in the exponential's series."""
    total = np.zeros_like(radius)
    for n in (1, 2, 3, 4, 5):
        a = 5 * n / 3
        factor = (-_BLUR) ** n / gamma(n + 1)
        total += factor * np.pi ** (-a - 1) * gamma(1 + a / 2) * rgamma(-a / 2) * radius ** (-a - 2)
    return total


@dataclass(frozen=True)
class TruePsf:
    """The PSF of a visit anywhere on its sensor, including what lies off the file's stamp.

    Attributes
    ----------
    fwhm : `float`
        At the middle, pixels.
    bend : `numpy.ndarray`, (3, 5)
        Growth, g1 and g2 (rows) as 1, u, v, u v, u^2 + v^2 of the position, u and v in [-1, 1].
    """

    fwhm: float
    beta: float
    shape: tuple[int, int]
    bend: Array

    @classmethod
    def of(cls, night: Night, shape: tuple[int, int], rng: np.random.Generator) -> TruePsf:
        """Size within 4 % and ellipticities up to about 0.03, in directions of the visit's own."""
        bend = rng.normal(size=(3, 5))
        bend[:, 0] *= (0.0, 0.01, 0.01)
        bend[:, 1:] /= np.abs(bend[:, 1:]).sum(axis=1, keepdims=True)
        bend[:, 1:] *= np.array([[0.04], [0.025], [0.025]])
        bend[:, 0] = np.clip(bend[:, 0], -0.01, 0.01)
        return cls(night.fwhm / SCALE, night.beta, shape, bend)

    @property
    def profile(self) -> Array:
        """The radial table."""
        return table(self.beta)

    def forms(self, x: Array, y: Array) -> Array:
        """(n, 4): q11, q12, q22 with r^2 = q11 dx^2 + 2 q12 dx dy + q22 dy^2 in FWHM, and sqrt(det q)."""
        u, v = 2 * x / self.shape[1] - 1, 2 * y / self.shape[0] - 1
        terms = np.stack([np.ones_like(u), u, v, u * v, u * u + v * v])
        growth, g1, g2 = self.bend @ terms
        size = self.fwhm * (1 + growth)
        g = g1 * g1 + g2 * g2
        scale = 1 / (size * size * (1 - g))
        q11 = ((1 - g1) ** 2 + g2 * g2) * scale
        q22 = ((1 + g1) ** 2 + g2 * g2) * scale
        return np.stack([q11, -2 * g2 * scale, q22, 1 / size**2], axis=-1)

    def stamp(self, x: float, y: float, side: int, dx: float = 0.0, dy: float = 0.0) -> Array:
        """The light of a star at (x, y) on a stamp around its pixel, moved off the middle by (dx, dy)."""
        q11, q12, q22, area = self.forms(np.array([x]), np.array([y]))[0]
        offset = np.arange(side) - side // 2
        px, py = offset[None, :] - dx, offset[:, None] - dy
        radius = np.sqrt(q11 * px * px + 2 * q12 * px * py + q22 * py * py)
        return np.asarray(np.interp(radius, np.arange(len(self.profile)) * STEP, self.profile) * area)

    def model(self, error: float) -> KernelPsf:
        """The PSF as a file holds it: its stamp with sum 1, as Chebyshev polynomials of the position.

        ``error`` makes it too wide by this fraction.
        """
        ny, nx = self.shape
        box = (-0.5, -0.5, nx - 0.5, ny - 0.5)
        grid = [a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, 7), np.linspace(0, ny - 1, 7))]
        wrong = TruePsf(self.fwhm * (1 + error), self.beta, self.shape, self.bend)
        stamps = np.stack([wrong.stamp(x, y, STAMP) for x, y in zip(*grid, strict=True)])
        stamps /= stamps.sum(axis=(1, 2), keepdims=True)
        terms = chebyshev_terms(*grid, MODEL_ORDER, box)
        found = np.linalg.lstsq(terms, stamps.reshape(len(stamps), -1), rcond=None)[0]
        components = found.reshape(-1, STAMP, STAMP)
        kernel = LinearCombinationKernel(components, np.eye(len(components)), box)
        return KernelPsf(kernel, ((nx - 1) / 2, (ny - 1) / 2))
