# SPDX-License-Identifier: BSD-3-Clause
"""Convolution of images with kernels that vary over the field.

A kernel K(x, y) = Σ_j T_j(x, y) K_j needs one inverse FFT per Chebyshev term T_j, whatever the number of
basis functions it was fitted with; and fewer where the images K_j are nearly combinations of a few others,
which a singular value decomposition tells. As in afw the kernel is not flipped: out(x) = Σ_u K(u) in(x + u).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from diffrun.engine.smallkernel import correlate_small, is_small
from diffrun.engine.smoothpsf import fit_field, full_convolution
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms
from diffrun.threads import each

Array = NDArray[np.float64]
Float = NDArray[np.float32]
#: Side of a tile, pixels: its spectrum fits a second-level cache.
_TILE = 384
#: Relative errors of a kernel, as the root of the sum of squares: lost in the rounding of the image; without
#: effect on what is whitened or filtered with it; good enough for variances.
EXACT, GOOD, FOR_VARIANCE = 1e-5, 1e-3, 1e-2


class Ripples(Protocol):
    """Further terms of a kernel whose amplitudes are no polynomials of the place."""

    @property
    def images(self) -> Array:
        """Kernel images, (n, height, width)."""

    def amplitudes(self, rows: slice, columns: slice) -> Iterator[Float]:
        """The factor of each image in a window of the output, (rows, columns) each."""


def correlate(
    image: Float | NDArray[np.bool_],
    kernel: LinearCombinationKernel,
    xy0: tuple[int, int],
    tolerance: float = EXACT,
    ripples: Ripples | None = None,
) -> Float:
    """Correlate an image with a spatially varying kernel; beyond its border the image counts as 0.

    Tile by tile (overlap-save), so that the transforms stay in the cache and the memory is bounded; a small
    kernel for variances tap by tap.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32 or bool
        Finite everywhere.
    kernel : `LinearCombinationKernel`
        Odd sides; evaluated at the output pixel.
    xy0 : `tuple` of `int`
        Parent pixel of ``image[0, 0]``.
    tolerance : `float`
        Relative error of the kernel up to which its terms may be combined and its border cut.
    ripples : `Ripples`, optional
        Terms that are added to those of ``kernel``.

    Returns
    -------
    out : `numpy.ndarray`, (ny, nx), float32
    """
    images, mixing = low_rank(kernel, tolerance)
    along_x, along_y = _along_axes(kernel, image.shape, xy0)
    if ripples is None and images.shape[1:] == (1, 1):
        return _scaled(image, along_y @ (mixing[0] * np.float32(images[0, 0, 0])), along_x)
    if ripples is None and tolerance >= FOR_VARIANCE and is_small(images, image.shape):
        return correlate_small(image, images, mixing, (along_x, along_y))
    stamps = [*images, *(ripples.images if ripples else ())]
    half = max(max(stamp.shape) for stamp in stamps) // 2
    side = scipy.fft.next_fast_len(min(max(_TILE, 4 * half), max(image.shape) + 2 * half), real=True)
    step = side - 2 * half
    transfers = [np.conj(scipy.fft.rfft2(_centred(stamp, side))) for stamp in stamps]
    out = np.zeros(image.shape, np.float32)

    def amplitudes(rows: slice, columns: slice) -> Iterator[Float]:
        one = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for mixed in mixing:
            yield np.matmul(along_y[rows], mixed @ along_x[:, columns], out=one)
        if ripples:
            yield from ripples.amplitudes(rows, columns)

    def do(corner: tuple[int, int]) -> None:
        y, x = corner
        rows, columns = slice(y, min(y + step, image.shape[0])), slice(x, min(x + step, image.shape[1]))
        window = _window(image, y - half, x - half, side)
        if not (window[side // 2, side // 2] or window.any()):
            return
        spectrum = scipy.fft.rfft2(window)
        product = np.empty_like(spectrum)
        inside = np.s_[half : half + rows.stop - y, half : half + columns.stop - x]
        for transfer, amplitude in zip(transfers, amplitudes(rows, columns), strict=True):
            np.multiply(spectrum, transfer, out=product)
            amplitude *= scipy.fft.irfft2(product, s=(side, side), overwrite_x=True)[inside]
            out[rows, columns] += amplitude

    corners = [(y, x) for y in range(0, image.shape[0], step) for x in range(0, image.shape[1], step)]
    each(do, corners)
    return out


def _scaled(image: Float | NDArray[np.bool_], along_y: Float, along_x: Float) -> Float:
    """An image times the surface that is the product of two narrow matrices."""
    out = np.empty(image.shape, np.float32)
    for start in range(0, len(image), _TILE):
        rows = slice(start, start + _TILE)
        np.multiply(image[rows], along_y[rows] @ along_x, out=out[rows])
    return out


def low_rank(kernel: LinearCombinationKernel, tolerance: float) -> tuple[Array, Float]:
    """The few images of which a kernel consists, and how they mix over the field.

    Parameters
    ----------
    kernel : `LinearCombinationKernel`
    tolerance : `float`
        Relative error, in the root of the sum of squares, at any place.

    Returns
    -------
    images : `numpy.ndarray`, (n, height, width), float64
        Without the border that the tolerance allows to cut.
    mixing : `numpy.ndarray`, (n, order + 1, order + 1), float32
        Amplitude of each image as a matrix over the Chebyshev polynomials of y and of x.
    """
    terms = _trimmed(kernel.term_images(), tolerance)
    amplitudes, sizes, rows = np.linalg.svd(terms.reshape(len(terms), -1), full_matrices=False)
    # no Chebyshev term exceeds 1: a dropped image adds at most its size times the sum of its amplitudes
    reach = sizes * np.abs(amplitudes).sum(axis=0)
    dropped = np.cumsum(reach[::-1])[::-1] <= tolerance * sizes[0]
    n = max(1, int(np.count_nonzero(~dropped)))
    mixing = np.zeros((n, kernel.order + 1, kernel.order + 1), np.float32)
    for term, (k, m) in zip(amplitudes[:, :n] * sizes[:n], _powers(kernel.order), strict=True):
        mixing[:, k, m - k] = term
    return rows[:n].reshape(n, *terms.shape[1:]), mixing


def _trimmed(terms: Array, tolerance: float) -> Array:
    """Kernel images without the rings at their border that hold less than a part of them."""
    power = (terms**2).sum(axis=0)
    total, cut = float(power.sum()), 0
    while 2 * (cut + 1) < min(power.shape):
        inner = power[cut + 1 : -cut - 1, cut + 1 : -cut - 1]
        if total - float(inner.sum()) > (0.1 * tolerance) ** 2 * total:
            break
        cut += 1
    return terms[:, cut:-cut, cut:-cut] if cut else terms


def _powers(order: int) -> list[tuple[int, int]]:
    """(order in y, order in all) of each Chebyshev term."""
    return [(k, m) for m in range(order + 1) for k in range(m + 1)]


def _along_axes(
    kernel: LinearCombinationKernel, shape: tuple[int, ...], xy0: tuple[int, int]
) -> tuple[Float, Float]:
    """The Chebyshev polynomials of x at every column, (order + 1, nx), of y at every row, (ny, order + 1)."""
    x = np.arange(shape[1], dtype=float) + xy0[0]
    y = np.arange(shape[0], dtype=float) + xy0[1]
    in_x = chebyshev_terms(x, np.full(len(x), kernel.box[1]), kernel.order, kernel.box)
    in_y = chebyshev_terms(np.full(len(y), kernel.box[0]), y, kernel.order, kernel.box)
    firsts = [m * (m + 1) // 2 for m in range(kernel.order + 1)]
    along_x = in_x[:, firsts].T.astype(np.float32)
    along_y = in_y[:, [first + m for m, first in enumerate(firsts)]].astype(np.float32)
    return np.ascontiguousarray(along_x), np.ascontiguousarray(along_y)


def _window(image: Float | NDArray[np.bool_], y: int, x: int, side: int) -> Float:
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
