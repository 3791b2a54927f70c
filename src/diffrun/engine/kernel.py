# SPDX-License-Identifier: BSD-3-Clause
"""Convolution of images with kernels that vary over the field.

A kernel K(x, y) = Σ_j T_j(x, y) K_j needs one inverse FFT per Chebyshev term, whatever the number of basis
functions it was fitted with. As in afw the kernel is not flipped: out(x) = Σ_u K(u) in(x + u).
"""

from __future__ import annotations

import os

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from diffrun.engine.smoothpsf import fit_field, full_convolution
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms

Float = NDArray[np.float32]
_WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def term_maps(kernel: LinearCombinationKernel, shape: tuple[int, int], xy0: tuple[int, int]) -> list[Float]:
    """Chebyshev terms at every pixel as broadcastable (ny, nx) products, float32."""
    ny, nx = shape
    x = np.arange(nx, dtype=float) + xy0[0]
    y = np.arange(ny, dtype=float) + xy0[1]
    order = kernel.order
    along_x = chebyshev_terms(x, np.full(nx, (kernel.box[1] + kernel.box[3]) / 2), order, kernel.box)
    along_y = chebyshev_terms(np.full(ny, (kernel.box[0] + kernel.box[2]) / 2), y, order, kernel.box)
    tx = [along_x[:, m * (m + 1) // 2] for m in range(order + 1)]
    ty = [along_y[:, m * (m + 1) // 2 + m] for m in range(order + 1)]
    return [
        (ty[k][:, None] * tx[m - k][None, :]).astype(np.float32)
        for m in range(order + 1)
        for k in range(m + 1)
    ]


def correlate(image: Float, kernel: LinearCombinationKernel, xy0: tuple[int, int]) -> Float:
    """Correlate an image with a spatially varying kernel; beyond its border the image counts as 0.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Finite everywhere.
    kernel : `LinearCombinationKernel`
        Odd sides; evaluated at the output pixel.
    xy0 : `tuple` of `int`
        Parent pixel of ``image[0, 0]``.

    Returns
    -------
    out : `numpy.ndarray`, (ny, nx), float32
    """
    terms = kernel.term_images()
    half_y, half_x = terms.shape[1] // 2, terms.shape[2] // 2
    padded = [
        scipy.fft.next_fast_len(n + h, real=True) for n, h in zip(image.shape, (half_y, half_x), strict=True)
    ]
    spectrum = scipy.fft.rfft2(image, s=padded, workers=_WORKERS)
    out = np.zeros(image.shape, np.float32)
    for term, weight in zip(terms, term_maps(kernel, image.shape, xy0), strict=True):
        transfer = np.conj(scipy.fft.rfft2(_centred(term, padded), workers=_WORKERS))
        convolved = scipy.fft.irfft2(spectrum * transfer, s=padded, workers=_WORKERS)
        out += weight * convolved[: image.shape[0], : image.shape[1]]
    return out


def _centred(stamp: NDArray[np.float64], shape: list[int]) -> Float:
    """A stamp with its middle at pixel (0, 0) of a periodic image."""
    out = np.zeros(shape, np.float32)
    ny, nx = stamp.shape
    out[:ny, :nx] = stamp
    return np.roll(out, (-(ny // 2), -(nx // 2)), axis=(0, 1))


def squared(kernel: LinearCombinationKernel) -> LinearCombinationKernel:
    """K(x, y)² as a kernel, for variances: a quadratic field through its exact values at the nodes."""
    return fit_field(lambda x, y: kernel.at(x, y) ** 2, kernel.box, min(2 * kernel.order, 2))


def product(first: LinearCombinationKernel, second: LinearCombinationKernel) -> LinearCombinationKernel:
    """Correlation with ``first`` and then with ``second`` as one kernel."""

    def sample(x: float, y: float) -> NDArray[np.float64]:
        return full_convolution(first.at(x, y), second.at(x, y))

    return fit_field(sample, first.box, max(first.order, second.order))
