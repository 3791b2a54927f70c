# SPDX-License-Identifier: BSD-3-Clause
"""Whitening of the noise of a difference (Reiss and Lupton, DMTN-021, eq. 2, in its corrected form).

With c the variance of the image that was convolved with κ, and u that of the other, the noise of the
difference has the power u |L_u|² + c |κ|² |L_c|², where L is the power lost to interpolation of a warped
image (1 for the other). It is made white by

    ψ² = (u + c κ(0)²) / (u |L_u|² + c |κ|² |L_c|²),

κ(0) the kernel sum, so that the flux of a source is kept: ψ(0) = 1.

L depends on where a target pixel falls between the source's: on the sub-pixel phase f, which runs through
all values over some hundred pixels where the two grids are turned by half a degree. A whitening kernel for
the mean |L|² leaves a noise that is white on the mean, and beats with f by a tenth and more where the warped
image is not smoothed by κ. So ψ follows the phase: ψ_f = Σ_pq cos(2πp f_y) cos(2πq f_x) ψ_pq with p + q <= 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.kernel import product
from diffrun.engine.smoothpsf import centre, fit_field
from diffrun.engine.warp import PHASES, Resampling
from diffrun.files.afw.kernel import LinearCombinationKernel

Array = NDArray[np.float64]
#: Side of the FFT grid on which ψ is made, and half width of the kernel kept of it.
_GRID, _HALF = 128, 24
#: Half width of the kernel that stands for the interpolation of a warped image.
_BLUR_HALF = 4
#: Frequencies with less than this part of the white power are not raised further.
_FLOOR = 0.02
#: A ripple with a smaller part of ψ than this does nothing that could be seen.
_SEEN = 2e-3
#: Phases that pass faster than this, in cycles a pixel, are many within the reach of ψ: their mean counts.
_FASTEST = 0.03
#: What a phase that does not occur counts, for those between.
_RARE = 1e-6
#: Orders (p, q) of the ripples in y and in x.
_ORDERS = ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))


@dataclass(frozen=True)
class Ripples:
    """What ψ is more than its mean, as terms in the sub-pixel phase of a warped image.

    Attributes
    ----------
    images : `numpy.ndarray`, (n, size, size), float64
        Sum 0 each.
    orders : `tuple` [`tuple` [`int`, `int`]]
        (p, q) of each.
    warp : `Resampling`
    border : `int`
        Pixels by which the grid of the warp is larger on each side than that of the difference.
    """

    images: Array
    orders: tuple[tuple[int, int], ...]
    warp: Resampling
    border: int

    def times(self, factor: float) -> Ripples:
        """The same on another scale."""
        return dataclasses.replace(self, images=factor * self.images)

    def amplitudes(self, rows: slice, columns: slice) -> Iterator[NDArray[np.float32]]:
        """cos(2πp f_y) cos(2πq f_x) in a window of the difference, for each image."""
        in_x, in_y = self.warp.phases(rows, columns, self.border)
        of = [(None, None), (in_x, in_y), (2 * in_x**2 - 1, 2 * in_y**2 - 1)]
        for p, q in self.orders:
            yield of[q][0].copy() if not p else of[p][1].copy() if not q else of[p][1] * of[q][0]


@dataclass(frozen=True)
class Whitening:
    """The whitening kernel ψ.

    Attributes
    ----------
    kernel : `LinearCombinationKernel`
        Its mean over the phases.
    noise : `LinearCombinationKernel`
        The whitening kernel for noise with the mean power over the phases: it leaves the same variance.
    ripples : `Ripples` or `None`
        What ψ does with the phases.
    """

    kernel: LinearCombinationKernel
    noise: LinearCombinationKernel
    ripples: Ripples | None = None


@dataclass(frozen=True)
class Noise:
    """The noise of one of two images.

    Attributes
    ----------
    variance : `float`
        Typical variance a pixel.
    warp : `Resampling` or `None`
        The interpolation it has gone through.
    """

    variance: float
    warp: Resampling | None = None

    @cached_property
    def power(self) -> Array:
        """Mean power transfer of the interpolation, (128, 128): 1 for none."""
        return np.ones((_GRID, _GRID)) if self.warp is None else self.warp.power(_GRID)


def whitening(kernel: LinearCombinationKernel, plain: Noise, convolved: Noise, border: int = 0) -> Whitening:
    """The whitening kernel ψ over the field, sum 1 everywhere.

    Parameters
    ----------
    kernel : `LinearCombinationKernel`
        The matching kernel κ.
    plain, convolved : `Noise`
        Of the image that was not, and of the one that was convolved with κ. One of them may be warped.
    border : `int`
        Pixels by which the warped grid is larger on each side than that of the difference.
    """
    spectra = [noise.variance * noise.power for noise in (plain, convolved)]

    def sample(x: float, y: float) -> Array:
        psi = _psi(kernel.at(x, y), *spectra)
        stamp = _stamp(psi, _HALF)
        return np.asarray(stamp / stamp.sum())

    mean = fit_field(sample, kernel.box, kernel.order)
    warp = plain.warp or convolved.warp
    if warp is None or np.abs(warp.jacobian - np.rint(warp.jacobian)).max() > _FASTEST:
        return Whitening(mean, mean)
    return _rippled(mean, kernel, plain, convolved, warp, border)


def _psi(matching: Array, plain: Array, convolved: Array) -> Array:
    """The transfer of ψ, from the kernel and the power spectra of both images' noise, (..., n, n)."""
    transfer = np.abs(np.fft.fft2(matching, s=(_GRID, _GRID))) ** 2
    noise = plain + transfer * convolved
    white = noise[..., :1, :1]
    return np.asarray(np.sqrt(white / np.maximum(noise, _FLOOR * white)))


def _stamp(transfer: Array, half: int) -> Array:
    """The kernel image of a symmetric transfer function."""
    image = np.fft.fftshift(np.fft.ifft2(transfer).real)
    middle = _GRID // 2
    return image[middle - half : middle + half + 1, middle - half : middle + half + 1]


def _rippled(
    mean: LinearCombinationKernel,
    kernel: LinearCombinationKernel,
    plain: Noise,
    convolved: Noise,
    warp: Resampling,
    border: int,
) -> Whitening:
    """ψ with its terms in the phase, found for the middle of the field by least squares over the phases.

    Those that occur count by how often they do, so that one phase everywhere, as after a mere shift, is met.
    """
    in_x, in_y = (powers[::2] for powers in warp.phase_powers(_GRID))
    phases = PHASES[::2]
    pairs = [(a, b) for a in range(len(phases)) for b in range(len(phases))]
    power = np.stack([in_y[a] * in_x[b] for a, b in pairs])
    one = np.ones_like(power)
    psi = _psi(
        kernel.at(*centre(kernel.box)),
        plain.variance * (one if plain.warp is None else power),
        convolved.variance * (one if convolved.warp is None else power),
    )
    cosines = np.cos(2 * np.pi * np.outer(np.arange(3), phases))
    design = np.array([[cosines[p, a] * cosines[q, b] for p, q in ((0, 0), *_ORDERS)] for a, b in pairs])
    weight = np.sqrt(_occurrence(warp, phases).ravel() + _RARE)[:, None]
    fitted = np.linalg.lstsq(weight * design, weight * psi.reshape(len(pairs), -1), rcond=None)[0]
    images = np.stack([_stamp(term, _HALF) for term in fitted.reshape(-1, _GRID, _GRID)])
    middle = mean.at(*centre(mean.box))
    images[0] -= middle
    images -= images.mean(axis=(1, 2), keepdims=True)
    sizes = np.sqrt((images**2).sum(axis=(1, 2)) / (middle**2).sum())
    seen = [i for i in range(1, len(images)) if sizes[i] > _SEEN]
    if not seen:
        return Whitening(mean, mean)
    shifted = mean.components.copy()
    shifted[0] += images[0]
    orders = tuple(_ORDERS[i - 1] for i in seen)
    ripples = Ripples(images[seen], orders, warp, border)
    return Whitening(LinearCombinationKernel(shifted, mean.coefficients, mean.box), mean, ripples)


def _occurrence(warp: Resampling, phases: Array) -> Array:
    """How often pairs of some of `PHASES` occur, those between counted with both, (phases, phases), sum 1."""
    distance = np.abs(phases[:, None] - PHASES) / (phases[1] - phases[0])
    share = np.maximum(1 - distance, 0)
    return np.asarray(share @ warp.phase_weights() @ share.T)


def identity(box: tuple[float, float, float, float]) -> Whitening:
    """The whitening that changes nothing."""
    one = LinearCombinationKernel(np.ones((1, 1, 1)), np.ones((1, 1)), box)
    return Whitening(one, one)


def blurred(kernel: LinearCombinationKernel, noise: Noise) -> LinearCombinationKernel:
    """A kernel together with the interpolation that the noise of an image has gone through.

    Squared, it gives the mean variance that the kernel leaves of this noise.
    """
    if noise.warp is None:
        return kernel
    stamp = _stamp(np.sqrt(noise.power), _BLUR_HALF)
    return product(kernel, LinearCombinationKernel(stamp[None], np.ones((1, 1)), kernel.box))
