# SPDX-License-Identifier: BSD-3-Clause
"""Whitening of the noise of a difference (Reiss and Lupton, DMTN-021, eq. 2, in its corrected form).

With c the variance of the image that was convolved with κ, and u that of the other, the noise of the
difference has the power u |L_u|² + c |κ|² |L_c|², where L is the power lost to interpolation of a warped
image (1 for the other). It is made white by

    ψ² = (u + c κ(0)²) / (u |L_u|² + c |κ|² |L_c|²),

κ(0) the kernel sum, so that the flux of a source is kept: ψ(0) = 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.kernel import product
from diffrun.engine.smoothpsf import fit_field
from diffrun.files.afw.kernel import LinearCombinationKernel

Array = NDArray[np.float64]
#: Side of the FFT grid on which ψ is made, and half width of the kernel kept of it.
_GRID = 128
HALF = 24
#: Frequencies with less than this part of the white power are not raised further.
_FLOOR = 0.02


def whitening(
    kernel: LinearCombinationKernel,
    plain_variance: float,
    convolved_variance: float,
    plain_power: Array | None = None,
    convolved_power: Array | None = None,
    half: int = HALF,
) -> LinearCombinationKernel:
    """The whitening kernel ψ over the field, sum 1 everywhere.

    Parameters
    ----------
    kernel : `LinearCombinationKernel`
        The matching kernel κ.
    plain_variance, convolved_variance : `float`
        Variance a pixel of the image that was not, and of the one that was convolved with κ.
    plain_power, convolved_power : `numpy.ndarray`, (128, 128), optional
        Power transfer |L|² of the interpolation that either has gone through.
    half : `int`
        Half width of ψ.
    """
    plain_power = np.ones((_GRID, _GRID)) if plain_power is None else plain_power
    convolved_power = np.ones((_GRID, _GRID)) if convolved_power is None else convolved_power

    def sample(x: float, y: float) -> Array:
        matching = kernel.at(x, y)
        transfer = np.abs(np.fft.fft2(matching, s=(_GRID, _GRID))) ** 2
        white = plain_variance + convolved_variance * matching.sum() ** 2
        noise = plain_variance * plain_power + convolved_variance * transfer * convolved_power
        psi = np.fft.fftshift(np.fft.ifft2(np.sqrt(white / np.maximum(noise, _FLOOR * white))).real)
        middle = _GRID // 2
        stamp = psi[middle - half : middle + half + 1, middle - half : middle + half + 1]
        return np.asarray(stamp / stamp.sum())

    return fit_field(sample, kernel.box, kernel.order)


def power_grid() -> int:
    """Side of the FFT grid on which interpolation powers are wanted."""
    return _GRID


def identity(box: tuple[float, float, float, float]) -> LinearCombinationKernel:
    """The kernel that changes nothing."""
    return LinearCombinationKernel(np.ones((1, 1, 1)), np.ones((1, 1)), box)


def blurred(kernel: LinearCombinationKernel, power: Array | None, half: int = 4) -> LinearCombinationKernel:
    """A kernel together with an interpolation of the given power transfer; `None` for none.

    Squared, it gives the mean variance that the kernel leaves of a warped image's noise.
    """
    if power is None:
        return kernel
    image = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real)
    middle = _GRID // 2
    stamp = image[middle - half : middle + half + 1, middle - half : middle + half + 1]
    return product(kernel, LinearCombinationKernel(stamp[None], np.ones((1, 1)), kernel.box))
