# SPDX-License-Identifier: BSD-3-Clause
"""Convolution of images with kernels that vary over the field.

A kernel K(x, y) = Σ_j T_j(x, y) K_j needs one inverse FFT per Chebyshev term, whatever the number of basis
functions it was fitted with. As in afw the kernel is not flipped: out(x) = Σ_u K(u) in(x + u).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from diffrun.engine.smoothpsf import fit_field, full_convolution
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms

Float = NDArray[np.float32]
#: Threads: one a processor that we may run on. The result does not depend on their number.
_WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
#: Side of a tile, pixels: its spectrum fits a second-level cache.
_TILE = 512


def correlate(image: Float, kernel: LinearCombinationKernel, xy0: tuple[int, int]) -> Float:
    """Correlate an image with a spatially varying kernel; beyond its border the image counts as 0.

    Tile by tile (overlap-save), so that the transforms stay in the cache and the memory is bounded.

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
    half = max(terms.shape[1:]) // 2
    side = scipy.fft.next_fast_len(min(max(_TILE, 4 * half), max(image.shape) + 2 * half), real=True)
    step = side - 2 * half
    transfers = [np.conj(scipy.fft.rfft2(_centred(term, side))) for term in terms]
    along_x, along_y = _along_axes(kernel, image.shape, xy0)
    out = np.empty(image.shape, np.float32)

    def do(corner: tuple[int, int]) -> None:
        y, x = corner
        rows, columns = slice(y, min(y + step, image.shape[0])), slice(x, min(x + step, image.shape[1]))
        spectrum = scipy.fft.rfft2(_window(image, y - half, x - half, side))
        total = np.zeros((rows.stop - y, columns.stop - x), np.float32)
        for transfer, (k, m) in zip(transfers, _powers(kernel.order), strict=True):
            tile = scipy.fft.irfft2(spectrum * transfer, s=(side, side))
            tile = tile[half : half + total.shape[0], half : half + total.shape[1]]
            total += along_y[k][rows, None] * along_x[m - k][None, columns] * tile
        out[rows, columns] = total

    corners = [(y, x) for y in range(0, image.shape[0], step) for x in range(0, image.shape[1], step)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(do, corners))
    return out


def _powers(order: int) -> list[tuple[int, int]]:
    """(order in y, order in all) of each Chebyshev term."""
    return [(k, m) for m in range(order + 1) for k in range(m + 1)]


def _along_axes(
    kernel: LinearCombinationKernel, shape: tuple[int, ...], xy0: tuple[int, int]
) -> tuple[list[Float], list[Float]]:
    """The Chebyshev polynomials of x and of y at every column and row, float32."""
    x = np.arange(shape[1], dtype=float) + xy0[0]
    y = np.arange(shape[0], dtype=float) + xy0[1]
    in_x = chebyshev_terms(x, np.full(len(x), kernel.box[1]), kernel.order, kernel.box)
    in_y = chebyshev_terms(np.full(len(y), kernel.box[0]), y, kernel.order, kernel.box)
    firsts = [m * (m + 1) // 2 for m in range(kernel.order + 1)]
    along_x = [in_x[:, first].astype(np.float32) for first in firsts]
    along_y = [in_y[:, first + m].astype(np.float32) for m, first in enumerate(firsts)]
    return along_x, along_y


def _window(image: Float, y: int, x: int, side: int) -> Float:
    """A square of an image, 0 where it reaches beyond."""
    window = np.zeros((side, side), np.float32)
    top, left = max(y, 0), max(x, 0)
    part = image[top : max(y + side, 0), left : max(x + side, 0)]
    window[top - y : top - y + part.shape[0], left - x : left - x + part.shape[1]] = part
    return window


def _centred(stamp: NDArray[np.float64], side: int) -> Float:
    """A stamp with its middle at pixel (0, 0) of a periodic square."""
    out = np.zeros((side, side), np.float32)
    out[: stamp.shape[0], : stamp.shape[1]] = stamp
    return np.roll(out, (-(stamp.shape[0] // 2), -(stamp.shape[1] // 2)), axis=(0, 1))


def squared(kernel: LinearCombinationKernel) -> LinearCombinationKernel:
    """K(x, y)² as a kernel, for variances: a quadratic field through its exact values at the nodes."""
    return fit_field(lambda x, y: kernel.at(x, y) ** 2, kernel.box, min(2 * kernel.order, 2))


def product(first: LinearCombinationKernel, second: LinearCombinationKernel) -> LinearCombinationKernel:
    """Correlation with ``first`` and then with ``second`` as one kernel."""

    def sample(x: float, y: float) -> NDArray[np.float64]:
        return full_convolution(first.at(x, y), second.at(x, y))

    return fit_field(sample, first.box, max(first.order, second.order))
