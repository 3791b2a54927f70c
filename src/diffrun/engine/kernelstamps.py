# SPDX-License-Identifier: BSD-3-Clause
"""Stamps of the kernel's candidates, cut out of both images, with the columns of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.basis import GaussianBasis
from diffrun.engine.candidates import UNUSABLE_PLANES, Candidates
from diffrun.engine.masks import grown
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.threads import each

Array = NDArray[np.float64]
Float = NDArray[np.float32]

#: Pixels of the image to be convolved that are unusable spoil their neighbours up to this distance.
_SPOILT = 3


@dataclass(frozen=True)
class Stamps:
    """Round stamps of n candidates on both images.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,)
        Parent pixels of the centres.
    design : `numpy.ndarray`, (n, bases, pixels), float32
        The image to be convolved, correlated with each basis image.
    target : `numpy.ndarray`, (n, pixels), float32
        The image to be matched.
    target_variance, convolved_variance : `numpy.ndarray`, (n, pixels), float32
        Variance of the target and of the image to be convolved, as it is.
    usable : `numpy.ndarray`, (n, pixels), bool
    disc : `numpy.ndarray`, (side, side), bool
        Which pixels of the square about a star those of its stamp are.
    """

    x: Array
    y: Array
    design: Float
    target: Float
    target_variance: Float
    convolved_variance: Float
    usable: NDArray[np.bool_]
    disc: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    def squares(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the pixels, (n, pixels), on squares, (n, side, side), with 0 outside the discs."""
        out = np.zeros((len(values), *self.disc.shape), values.dtype)
        out[:, self.disc] = values
        return out

    def models(self, kernel: LinearCombinationKernel) -> Float:
        """The matched stamps, (n, pixels)."""
        weights = kernel.weights(self.x, self.y).astype(np.float32)
        return np.asarray(np.matmul(weights[:, None, :], self.design)[:, 0])

    def first_guess(self) -> Float:
        """The stamps convolved with the first basis image and scaled to the target, (n, pixels)."""
        shape = self.design[:, 0] - np.median(self.design[:, 0], axis=1, keepdims=True)
        usable = np.where(self.usable, shape, np.float32(0))
        power = np.einsum("ip,ip->i", usable, usable, dtype=float)
        match = np.einsum("ip,ip->i", usable, self.target, dtype=float)
        scale = np.divide(match, power, out=np.zeros(len(power)), where=power > 0)
        return np.asarray(scale.astype(np.float32)[:, None] * shape)


def cut(
    convolve: Exposure, target: Exposure, candidates: Candidates, basis: GaussianBasis, half: int
) -> Stamps:
    """Cut stamps of radius ``half`` out of two images on one grid of parent pixels, finite everywhere."""
    offset = np.arange(-half, half + 1)
    inside = np.hypot(offset[:, None], offset[None, :]) <= half + 0.5
    disc = np.flatnonzero(inside)
    n, reach = len(candidates), half + basis.size // 2
    design = np.empty((n, len(basis.mixing), len(disc)), np.float32)
    bands = basis.bands(2 * reach + 1)
    planes = np.empty((3, n, len(disc)), np.float32)
    usable = np.empty((n, len(disc)), bool)

    def do(i: int) -> None:
        x, y = candidates.x[i], candidates.y[i]
        design[i] = basis.correlate(_window(convolve, convolve.image, x, y, reach), bands, disc)
        planes[0, i] = _window(target, target.image, x, y, half).ravel()[disc]
        planes[1, i] = _window(target, target.variance, x, y, half).ravel()[disc]
        planes[2, i] = _window(convolve, convolve.variance, x, y, half).ravel()[disc]
        good = _usable(target, x, y, half) & ~_spoilt(convolve, x, y, half)
        usable[i] = good.ravel()[disc]

    each(do, range(n))
    return Stamps(candidates.x, candidates.y, design, planes[0], planes[1], planes[2], usable, inside)


def _window(exposure: Exposure, plane: NDArray[Any], x: float, y: float, half: int) -> NDArray[Any]:
    """The window of a plane about a parent pixel, (2 half + 1, 2 half + 1), 0 beyond the border."""
    column, row = round(x) - exposure.xy0[0], round(y) - exposure.xy0[1]
    rows, columns = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
    ny, nx = plane.shape
    if row >= half and column >= half and rows.stop <= ny and columns.stop <= nx:
        return plane[rows, columns]
    window = np.zeros((2 * half + 1, 2 * half + 1), plane.dtype)
    top, left = max(-rows.start, 0), max(-columns.start, 0)
    inside = plane[max(rows.start, 0) : rows.stop, max(columns.start, 0) : columns.stop]
    window[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return window


def _usable(exposure: Exposure, x: float, y: float, half: int) -> NDArray[np.bool_]:
    """Pixels of a window that lie on the image, unmasked."""
    bad = np.int32(exposure.bits(*UNUSABLE_PLANES))
    inside = _window(exposure, exposure.variance, x, y, half) > 0
    return np.asarray(inside & ((_window(exposure, exposure.mask, x, y, half) & bad) == 0))


def _spoilt(exposure: Exposure, x: float, y: float, half: int) -> NDArray[np.bool_]:
    """Pixels of a window that a convolution takes from unusable ones."""
    bad = grown(~_usable(exposure, x, y, half + _SPOILT), _SPOILT)
    return bad[_SPOILT:-_SPOILT, _SPOILT:-_SPOILT]
