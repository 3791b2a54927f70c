# SPDX-License-Identifier: BSD-3-Clause
"""Point spread functions as afw stores them, evaluated as afw evaluates them (afw.md 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw.exposure import Psf
from diffrun.files.afw.kernel import LinearCombinationKernel


@dataclass(frozen=True)
class KernelPsf:
    """A PSF that is a kernel image with sum 1; afw's ``KernelPsf`` and ``PcaPsf``."""

    kernel: LinearCombinationKernel
    average_position: tuple[float, float]

    def kernel_image(self, x: float, y: float) -> NDArray[np.float64]:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1."""
        image = self.kernel.at(x, y)
        return np.asarray(image / image.sum())


@dataclass(frozen=True)
class GaussianPsf:
    """A round Gaussian, sampled at pixel centres; afw's ``GaussianPsf`` and ``SingleGaussianPsf``.

    Attributes
    ----------
    dimensions : `tuple` [`int`, `int`]
        Width and height of the stamp, odd.
    sigma : `float`
        Pixels.
    class_name : `str`
        Which of afw's two classes it is stored as.
    """

    dimensions: tuple[int, int]
    sigma: float
    average_position: tuple[float, float] = (0.0, 0.0)
    class_name: str = "GaussianPsf"

    def kernel_image(self, x: float, y: float) -> NDArray[np.float64]:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1."""
        image = np.exp(-_radius_squared(self.dimensions) / (2 * self.sigma**2))
        return np.asarray(image / image.sum())


@dataclass(frozen=True)
class DoubleGaussianPsf:
    """exp(-r²/2σ₁²) + b exp(-r²/2σ₂²), sampled at pixel centres.

    Attributes
    ----------
    dimensions : `tuple` [`int`, `int`]
        Width and height of the stamp, odd.
    sigma1, sigma2 : `float`
        Pixels.
    b : `float`
        Peak of the second Gaussian, in units of the first's.
    """

    dimensions: tuple[int, int]
    sigma1: float
    sigma2: float
    b: float
    average_position: tuple[float, float] = (0.0, 0.0)

    def kernel_image(self, x: float, y: float) -> NDArray[np.float64]:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1."""
        r2 = _radius_squared(self.dimensions)
        image = np.exp(-r2 / (2 * self.sigma1**2)) + self.b * np.exp(-r2 / (2 * self.sigma2**2))
        return np.asarray(image / image.sum())


@dataclass(frozen=True)
class PsfexPsf:
    """PSFEx's model: images that vary with a polynomial of position, on a grid of their own.

    Attributes
    ----------
    components : `numpy.ndarray`, (n, height, width), float32
        One image per polynomial term, in the order 1, x, ..., x^D, y, xy, ... with y slow.
    degree : `int`
        D, the total degree.
    offset, scale : `tuple` [`float`, `float`]
        The polynomial's variables are (x - offset_x) / scale_x, and the same for y.
    step : `float`
        Size of the model's pixel, in image pixels.
    """

    components: NDArray[np.float32]
    degree: int
    offset: tuple[float, float]
    scale: tuple[float, float]
    step: float
    average_position: tuple[float, float]

    def kernel_image(self, x: float, y: float) -> NDArray[np.float64]:
        """The PSF at parent pixel (x, y), centred on the middle pixel, with sum 1."""
        return self._sampled(x, y, 0.0, 0.0)

    def image(self, x: float, y: float) -> tuple[NDArray[np.float64], int, int]:
        """A star at parent pixel (x, y) as it falls on the pixels: image, and parent pixel of its corner."""
        dx, dy = _psfex_shift(x), _psfex_shift(y)
        image = self._sampled(x, y, dx, dy)
        height, width = image.shape
        return image, int(x - dx + 0.5) - width // 2, int(y - dy + 0.5) - height // 2

    def _sampled(self, x: float, y: float, dx: float, dy: float) -> NDArray[np.float64]:
        """The model at (x, y), moved by (dx, dy), resampled to image pixels by Lanczos-5."""
        u = (x - self.offset[0]) / self.scale[0]
        v = (y - self.offset[1]) / self.scale[1]
        powers = [u**i * v**j for j in range(self.degree + 1) for i in range(self.degree + 1 - j)]
        model = np.tensordot(np.array(powers), self.components.astype(np.float64), axes=1)
        height, width = model.shape
        image = _psfex_weights(height, self.step, dy) @ model @ _psfex_weights(width, self.step, dx).T
        return np.asarray(image / image.sum())


def psf_image(psf: Psf, x: float, y: float) -> tuple[NDArray[np.float64], int, int]:
    """A star of flux 1 at parent pixel (x, y), as it falls on the pixels: afw's ``computeImage``.

    Parameters
    ----------
    psf : `Psf`
        Any of this module.
    x, y : `float`
        Parent pixels.

    Returns
    -------
    image : `numpy.ndarray`, (ny, nx), float64
    x0, y0 : `int`
        Parent pixel of ``image[0, 0]``.

    Notes
    -----
    The kernel image is moved by the fraction of a pixel with Lanczos-5, zero outside, and not normalised
    again (afw.md 2.3); PSFEx's model is resampled at the wanted place instead.
    """
    if isinstance(psf, PsfexPsf):
        return psf.image(x, y)
    kernel = psf.kernel_image(x, y)
    ix, iy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    height, width = kernel.shape
    image = np.asarray(_shift_matrix(height, y - iy) @ kernel @ _shift_matrix(width, x - ix).T)
    return image, ix - width // 2, iy - height // 2


def _radius_squared(dimensions: tuple[int, int]) -> NDArray[np.float64]:
    """Squared distance of each pixel of a stamp from its middle one, (height, width)."""
    width, height = dimensions
    x, y = np.arange(width) - width // 2, np.arange(height) - height // 2
    return np.asarray(x[np.newaxis] ** 2.0 + y[:, np.newaxis] ** 2.0)


def _lanczos(t: NDArray[Any], order: int) -> NDArray[np.float64]:
    """sinc(t) sinc(t/order), 0 from ``order`` on."""
    return np.asarray(np.where(np.abs(t) < order, np.sinc(t) * np.sinc(t / order), 0.0))


def _shift_matrix(length: int, fraction: float) -> NDArray[np.float64]:
    """The matrix that moves a row of pixels by a fraction of one with Lanczos-5; taps sum to 1."""
    if fraction == 0:
        return np.eye(length)
    # The stamp has zeros around it, so the taps that reach out still count in the sum.
    taps = np.arange(-5, length + 5)
    weights = _lanczos(np.arange(length)[:, np.newaxis] - taps - float(np.float32(fraction)), 5)
    return np.asarray((weights / weights.sum(axis=1, keepdims=True))[:, 5:-5])


def _psfex_shift(centre: float) -> float:
    """The part of a pixel that a PSFEx image is moved by: in (-0.5, 0.5]."""
    fraction = centre - int(centre)
    return fraction - 1 if fraction > 0.5 else fraction


def _psfex_weights(length: int, step: float, shift: float) -> NDArray[np.float64]:
    """Lanczos-5 weights from model pixels to image pixels, (image, model).

    Taps beyond the model count neither in the image nor in the sum of weights, and image pixels whose centre
    lies beyond it are 0, as in PSFEx's ``vignet_resample``.
    """
    out = int(length * step)
    out += (out + 1) % 2
    at = length // 2 + (np.arange(out) - out // 2 - shift) / step
    weights = _lanczos(at[:, np.newaxis] - np.arange(length), 5)
    inside = ((at >= 0) & (at <= length - 1))[:, np.newaxis]
    return np.asarray(np.where(inside, weights / weights.sum(axis=1, keepdims=True), 0.0))
