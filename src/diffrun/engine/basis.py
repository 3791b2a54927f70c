# SPDX-License-Identifier: BSD-3-Clause
"""The Alard-Lupton basis: Gaussians times polynomials (Alard and Lupton 1998, ApJ 503, 325).

B(u, v) = exp(-(u² + v²) / 2σ²) (u/h)^p (v/h)^q with h the half width of the kernel, in the order, scaling and
renormalisation of ``lsst.ip.diffim`` (BasisLists.cc): the first has sum 1, all others sum 0, so the sum of a
kernel is the coefficient of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianBasis:
    """Separable basis images and what turns them into the renormalised list.

    Attributes
    ----------
    factors : `numpy.ndarray`, (n_factors, N)
        One-dimensional functions Gσ(u) (u/h)^p.
    pairs : `numpy.ndarray`, (n, 2), int
        Factors (in y, in x) of each raw basis image.
    mixing : `numpy.ndarray`, (n, n)
        Renormalised images = mixing @ raw images.
    has_wing : `bool`
        Whether the last image is a Gaussian for the wings, which is the same over the field, or not needed.
    """

    factors: Array
    pairs: NDArray[np.int64]
    mixing: Array
    has_wing: bool = False

    @property
    def size(self) -> int:
        """Side of the kernel, odd."""
        return int(self.factors.shape[1])

    @property
    def images(self) -> Array:
        """The renormalised basis images, (n, N, N)."""
        raw = self.factors[self.pairs[:, 0]][:, :, None] * self.factors[self.pairs[:, 1]][:, None, :]
        return np.asarray(np.tensordot(self.mixing, raw, axes=1))

    @property
    def gram(self) -> Array:
        """Sums of the products of the renormalised images, (n, n)."""
        flat = self.images.reshape(len(self.mixing), -1)
        return np.asarray(flat @ flat.T)

    def bands(self, side: int) -> Array:
        """Each factor as the matrix that correlates a column of ``side`` pixels, (n_factors, width, side)."""
        width = side - self.size + 1
        bands = np.zeros((len(self.factors), width, side))
        for row in range(width):
            bands[:, row, row : row + self.size] = self.factors
        return bands

    def correlate(self, stamp: NDArray[np.float32], bands: Array, pixels: NDArray[np.intp]) -> Array:
        """A stamp correlated with every basis image, (bases, pixels).

        In double precision: in single precision the kernel would depend on the library's own order of sums.

        Parameters
        ----------
        stamp : `numpy.ndarray`, (n, n), float32
        bands : `numpy.ndarray`
            `bands` of that side.
        pixels : `numpy.ndarray`, int
            Places of the wanted pixels in the flat (n - N + 1, n - N + 1) that the basis reaches.
        """
        in_y = bands @ stamp
        raw = in_y[self.pairs[:, 0]] @ bands[self.pairs[:, 1]].transpose(0, 2, 1)
        return np.asarray(self.mixing @ raw.reshape(len(raw), -1)[:, pixels])


def gaussian_basis(
    size: int, sigmas: Sequence[float], degrees: Sequence[int], wing: float = 0.0
) -> GaussianBasis:
    """The basis for Gaussians of the given sigmas (pixels) and polynomial degrees on an odd side.

    ``wing`` is the sigma of one more Gaussian, of degree 0, for what the others leave of the PSF's wings;
    0 for none.
    """
    if wing:
        sigmas, degrees = [*sigmas, wing], [*degrees, 0]
    half = size // 2
    u = np.arange(-half, half + 1, dtype=float)
    factors: list[Array] = []
    pairs: list[tuple[int, int]] = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        profile = np.exp(-0.5 * (u / sigma) ** 2)
        profile /= profile.sum()
        first = len(factors)
        factors += [profile * (u / half) ** p for p in range(degree + 1)]
        pairs += [(first + q, first + n - q) for n in range(degree + 1) for q in range(n + 1)]
    stacked, indices = np.array(factors), np.array(pairs)
    return GaussianBasis(stacked, indices, _renormalisation(stacked, indices), bool(wing))


def _renormalisation(factors: Array, pairs: NDArray[np.int64]) -> Array:
    """Rows that turn the raw images into the list with sums 1, 0, 0, ... and unit norm but for the first."""
    raw = factors[pairs[:, 0]][:, :, None] * factors[pairs[:, 1]][:, None, :]
    sums = raw.sum(axis=(1, 2))
    mixing = np.eye(len(pairs))
    mixing[0] /= sums[0]
    for i in range(1, len(pairs)):
        if abs(sums[i]) > np.finfo(np.float32).eps:
            mixing[i] = mixing[i] / sums[i] - mixing[0]
        image = np.tensordot(mixing[i], raw, axes=1)
        mixing[i] /= np.sqrt((image**2).sum())
    return mixing


def matching_sigmas(
    narrow: float, wide: float, minimum: float = 0.7, count: int = 3, beta: float = 2.0
) -> list[float]:
    """Sigmas of the Gaussians that carry a PSF of sigma ``narrow`` into one of sigma ``wide``, in pixels.

    With k² = wide² - narrow²: max(k/2, minimum), then each ``beta`` times the one before. This is the smooth
    rule of today's ip_diffim (makeKernelBasisList.py, DM-54625); release 12.1 jumps at k = 2 minimum.
    """
    k = np.sqrt(max(wide**2 - narrow**2, minimum**2))
    smallest = max(minimum, k / 2)
    return [float(smallest * beta**i) for i in range(count)]


def kernel_size(sigmas: Sequence[float], fwhm: float, scaling: float, smallest: int, largest: int) -> int:
    """Odd side of the kernel: ``scaling`` times the larger of the widest Gaussian's sigma and the FWHM.

    Release 12.1 takes the sigma alone, which cuts the wings of a Kolmogorov PSF at 10 pixels.
    """
    size = int(scaling * max(sigmas[-1], fwhm))
    size += 1 - size % 2
    return min(max(size, smallest), largest)
