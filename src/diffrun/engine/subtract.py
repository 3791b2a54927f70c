# SPDX-License-Identifier: BSD-3-Clause
"""Convolution and subtraction on the science image's scale, with noise and mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diffrun.engine import decorrelate, masks, smoothpsf
from diffrun.engine.decorrelate import Noise, Whitening
from diffrun.engine.kernel import FOR_VARIANCE, GOOD, correlate, product, squared
from diffrun.engine.warp import Resampling
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf
from diffrun.threads import bands

#: Part of the kernel that must fall on data, for a value, and for a value that needs no flag.
_ENOUGH, _COMPLETE = 0.99, 0.999
#: Rows of which the coverage is found at a time.
_ROWS = 900


@dataclass
class Pair:
    """Both images with the sky at 0, on one grid: ``convolved`` will be matched to ``plain``.

    Attributes
    ----------
    plain, convolved : `Exposure`
        ``convolved`` is larger by ``border`` pixels on each side. Finite everywhere.
    plain_psf, convolved_psf : `KernelPsf`
        Their PSFs over the field.
    warp : `Resampling`
        How the template came onto the grid.
    convolve_template : `bool`
        Whether ``convolved`` is the template.
    border : `int`
    template_sky : `float`
        Level that was taken off the template.
    """

    plain: Exposure
    convolved: Exposure
    plain_psf: KernelPsf
    convolved_psf: KernelPsf
    warp: Resampling
    convolve_template: bool
    border: int
    template_sky: float

    def given(self) -> tuple[Exposure, Exposure]:
        """Both exposures, for good: who takes them may drop their planes one by one."""
        exposures = self.plain, self.convolved
        del self.plain, self.convolved
        return exposures

    @property
    def science(self) -> Exposure:
        """The science exposure of the two."""
        return self.plain if self.convolve_template else self.convolved

    @property
    def template(self) -> Exposure:
        """The template of the two, warped."""
        return self.convolved if self.convolve_template else self.plain

    @cached_property
    def noises(self) -> tuple[Noise, Noise]:
        """Typical noise of the plain and of the convolved image."""
        warps = (None, self.warp) if self.convolve_template else (self.warp, None)
        exposures = (self.plain, self.convolved)
        plain, convolved = (
            Noise(_typical_variance(one), warp) for one, warp in zip(exposures, warps, strict=True)
        )
        return plain, convolved


@dataclass(frozen=True)
class Subtraction:
    """What subtraction leaves.

    Attributes
    ----------
    difference : `Exposure`
        Whitened.
    science : `numpy.ndarray`, (ny, nx), float32
        The science image, whitened as the difference is but for the ripples, which change light by a few
        parts in 10,000; the matched template is what they differ by.
    science_share : `float`
        Part of the noise of a PSF flux on the difference that the science image brought.
    """

    difference: Exposure
    science: Any
    science_share: float


def subtract(
    pair: Pair, kernel: LinearCombinationKernel, whiten: bool, hand: Callable[[Exposure], None]
) -> Subtraction:
    """Convolve one image, subtract, whiten.

    With plain P and convolved C: D = ψ ⊗ (P - C ⊗ K), times -1 / gain when C is the science image, so that
    fluxes are always those of the science image, positive where it is brighter. The variance is that of the
    whole chain, Var(P) ⊗ ψ² + Var(C) ⊗ (K ⊗ ψ)², with ψ and K ⊗ ψ blurred by the interpolation of a warped
    image: what the noise really is, not what resampled pixels suggest.

    Parameters
    ----------
    pair : `Pair`
        Its exposures are taken from it.
    kernel : `LinearCombinationKernel`
        Matching kernel.
    whiten : `bool`
        Apply the decorrelation (`diffrun.engine.decorrelate`).
    hand : callable
        Given the matched template as soon as it is ready: with its sky, on the science image's scale, with
        the PSF of the plain image. It is not changed afterwards.
    """
    whitening = decorrelate.whitening(kernel, *pair.noises, pair.border) if whiten else None
    whitening = whitening or decorrelate.identity(kernel.box)
    psf = smoothpsf.convolved(pair.plain_psf, whitening.kernel)
    share = _science_share(pair, kernel, whitening.noise, psf)
    scale = _scale(pair, kernel)
    whitening = _scaled(whitening, scale)
    psi, ripples = whitening.kernel, whitening.ripples

    band = pair.template.filter
    plain, convolved = pair.given()
    base = _merged(pair, plain, convolved, kernel)
    images, variances = [plain.image, convolved.image], [plain.variance, convolved.variance]
    xy0, convolved_xy0 = plain.xy0, convolved.xy0
    del plain, convolved
    base = base.replace(mask=np.ascontiguousarray(base.mask))
    variance, matched_variance = _variances(
        pair, variances, (xy0, convolved_xy0), kernel, whitening.noise, scale
    )
    convolved_image = _inner(correlate(images.pop(), kernel, convolved_xy0), pair.border)
    image = images.pop()
    if pair.convolve_template:
        science, sky = correlate(image, psi, xy0, GOOD), pair.template_sky * _sum(kernel)
        np.subtract(image, convolved_image, out=image)
        matched = convolved_image
    else:
        science, sky = correlate(convolved_image, psi, xy0, GOOD), pair.template_sky / _sum(kernel)
        np.negative(science, out=science)
        matched = -correlate(image, scale, xy0)
        np.subtract(image, convolved_image, out=image)
    np.add(matched, np.float32(sky), out=matched)
    hand(base.replace(image=matched, variance=matched_variance, psf=pair.plain_psf, filter=band))
    del matched, convolved_image, matched_variance
    difference = correlate(image, psi, xy0, GOOD, ripples)
    return Subtraction(base.replace(image=difference, variance=variance, psf=psf), science, share)


def photometric_gain(pair: Pair, kernel: LinearCombinationKernel, x: float, y: float) -> float:
    """PSF flux of a source after the convolution over that before, both with PSFs of sum 1 on their stamps.

    The kernel sum of a kernel without a border; a kernel cut at its border loses the far wings, which a PSF
    flux does not see.
    """
    narrow, wide = pair.convolved_psf.kernel_image(x, y), pair.plain_psf.kernel_image(x, y)
    full = smoothpsf.full_convolution(narrow, kernel.at(x, y)[::-1, ::-1])
    edge = (full.shape[0] - wide.shape[0]) // 2
    inside = full[edge : edge + wide.shape[0], edge : edge + wide.shape[1]]
    return float((inside * wide).sum() / (wide**2).sum())


def _scale(pair: Pair, kernel: LinearCombinationKernel) -> LinearCombinationKernel:
    """What brings P - C ⊗ K onto the science image's scale and sign, as a kernel of one pixel."""
    if pair.convolve_template:
        return decorrelate.identity(kernel.box).kernel

    def sample(x: float, y: float) -> Any:
        return np.array([[-1.0 / photometric_gain(pair, kernel, x, y)]])

    return smoothpsf.fit_field(sample, kernel.box, kernel.order)


def _scaled(whitening: Whitening, scale: LinearCombinationKernel) -> Whitening:
    """ψ with the scale in it."""
    if scale.order == 0 and float(scale.components.sum()) == 1:
        return whitening
    ripples = whitening.ripples and whitening.ripples.times(_sum(scale))
    return Whitening(product(whitening.kernel, scale), product(whitening.noise, scale), ripples)


def _merged(pair: Pair, plain: Exposure, convolved: Exposure, kernel: LinearCombinationKernel) -> Exposure:
    """The science exposure with the masks of both and what the convolution adds to them; without pixels."""
    coverage = _coverage(convolved, kernel, pair.border)
    inner = masks.cropped(convolved, pair.border)
    science, template = (plain, inner) if pair.convolve_template else (inner, plain)
    nothing = np.empty((0, 0), np.float32)
    return masks.merged(science, template, *coverage).replace(image=nothing, variance=nothing)


def _coverage(convolved: Exposure, kernel: LinearCombinationKernel, border: int) -> tuple[Any, Any]:
    """Pixels that the convolution could not make, and those that felt missing data, each (ny, nx), bool.

    Measured by the part of |K| that fell on data: below `_ENOUGH` there is no value worth having.
    """
    middle = np.abs(kernel.at(*smoothpsf.centre(kernel.box)))
    weight = LinearCombinationKernel(middle[None] / middle.sum(), np.ones((1, 1)), kernel.box)
    edge = 0 if border else middle.shape[0] // 2
    missing = np.pad(convolved.has("NO_DATA"), edge, constant_values=True)
    around = border or edge
    lost, incomplete = (np.empty([n - 2 * around for n in missing.shape], bool) for _ in range(2))
    for first, end in bands(len(lost), _ROWS):  # by bands: no plane of parts in between
        part = _inner(correlate(missing[first : end + 2 * around], weight, convolved.xy0), around)
        np.greater(part, 1 - _ENOUGH, out=lost[first:end])
        np.greater(part, 1 - _COMPLETE, out=incomplete[first:end])
    return lost, incomplete


def _typical_variance(exposure: Exposure) -> float:
    """Median variance of one in sixteen pixels, of those without a mask bit where there are any."""
    variance, clean = exposure.variance[::4, ::4], exposure.mask[::4, ::4] == 0
    return float(np.median(variance[clean] if clean.any() else variance))


def _science_share(
    pair: Pair, kernel: LinearCombinationKernel, psi: LinearCombinationKernel, psf: KernelPsf
) -> float:
    """Part of the variance of a matched filter on the difference that is the science image's, mid-field."""
    at = smoothpsf.centre(kernel.box)
    stamp = psf.kernel_image(*at)
    plain, convolved = (
        noise.variance
        * float((smoothpsf.full_convolution(stamp, decorrelate.blurred(chain, noise).at(*at)) ** 2).sum())
        for noise, chain in zip(pair.noises, (psi, product(kernel, psi)), strict=True)
    )
    return (plain if pair.convolve_template else convolved) / (plain + convolved)


def _variances(
    pair: Pair,
    planes: list[Any],
    xy0: tuple[tuple[int, int], tuple[int, int]],
    kernel: LinearCombinationKernel,
    psi: LinearCombinationKernel,
    scale: LinearCombinationKernel,
) -> tuple[Any, Any]:
    """Variance of the difference, and that of the matched template before whitening, (ny, nx) each.

    The variance planes of the plain and of the convolved image are taken out of ``planes``.
    """
    of_plain, of_convolved = pair.noises

    def through(plane: Any, corner: tuple[int, int], noise: Noise, chain: LinearCombinationKernel) -> Any:
        return correlate(plane, squared(decorrelate.blurred(chain, noise)), corner, FOR_VARIANCE)

    plane = planes.pop(0)
    variance = through(plane, xy0[0], of_plain, psi)
    if not pair.convolve_template:
        matched = through(plane, xy0[0], Noise(1.0), scale)
    plane = planes.pop(0)
    variance += _inner(through(plane, xy0[1], of_convolved, product(kernel, psi)), pair.border)
    if pair.convolve_template:
        matched = _inner(through(plane, xy0[1], of_convolved, kernel), pair.border)
    return variance, matched


def _sum(kernel: LinearCombinationKernel) -> float:
    return float(kernel.at(*smoothpsf.centre(kernel.box)).sum())


def _inner(image: Any, border: int) -> Any:
    return image[border:-border, border:-border] if border else image
