# SPDX-License-Identifier: BSD-3-Clause
"""Convolution and subtraction on the science image's scale, with noise and mask."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffrun.engine import decorrelate, masks, smoothpsf
from diffrun.engine.kernel import correlate, product, squared
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf

#: Part of the kernel that must fall on data, for a value, and for a value that needs no flag.
_ENOUGH, _COMPLETE = 0.99, 0.999


@dataclass(frozen=True)
class Pair:
    """Both images with the sky at 0, on one grid: ``convolved`` will be matched to ``plain``.

    Attributes
    ----------
    plain, convolved : `Exposure`
        ``convolved`` is larger by ``border`` pixels on each side. Finite everywhere.
    plain_psf, convolved_psf : `KernelPsf`
        Their PSFs over the field.
    plain_power, convolved_power : `numpy.ndarray` or `None`
        Power that interpolation left of white noise, `None` for an image that was not warped.
    convolve_template : `bool`
        Whether ``convolved`` is the template.
    border : `int`
    """

    plain: Exposure
    convolved: Exposure
    plain_psf: KernelPsf
    convolved_psf: KernelPsf
    plain_power: Any
    convolved_power: Any
    convolve_template: bool
    border: int

    def inner(self) -> Pair:
        """The pair with ``convolved`` cropped to the grid of ``plain``."""
        return dataclasses.replace(self, convolved=masks.cropped(self.convolved, self.border), border=0)

    @property
    def science(self) -> Exposure:
        """The science exposure of the two."""
        return self.plain if self.convolve_template else self.convolved

    @property
    def template(self) -> Exposure:
        """The template of the two, warped."""
        return self.convolved if self.convolve_template else self.plain


@dataclass(frozen=True)
class Subtraction:
    """Whitened images with one PSF, difference = science - matched, and the template before whitening.

    ``science_share`` is the part of the noise of a PSF flux on the difference that the science image brought.
    """

    science: Exposure
    matched: Exposure
    difference: Exposure
    matched_template: Exposure
    science_share: float


def subtract(pair: Pair, kernel: LinearCombinationKernel, whiten: bool) -> Subtraction:
    """Convolve one image, subtract, whiten.

    With plain P and convolved C: D = ψ ⊗ (P - C ⊗ K), times -1 / gain when C is the science image, so that
    fluxes are always those of the science image, positive where it is brighter. The variance is that of the
    whole chain, Var(P) ⊗ ψ² + Var(C) ⊗ (K ⊗ ψ)², with ψ and K ⊗ ψ blurred by the interpolation of a warped
    image: what the noise really is, not what resampled pixels suggest.

    Parameters
    ----------
    pair : `Pair`
    kernel : `LinearCombinationKernel`
        Matching kernel; its sum is the same over the field.
    whiten : `bool`
        Apply the decorrelation (`diffrun.engine.decorrelate`).
    """
    psi = _psi(pair, kernel) if whiten else decorrelate.identity(kernel.box)
    gain = 1.0 if pair.convolve_template else photometric_gain(pair, kernel)
    scale = 1.0 if pair.convolve_template else -1.0 / gain

    blurred = masks.cropped(
        pair.convolved.replace(image=correlate(pair.convolved.image, kernel, pair.convolved.xy0)), pair.border
    )
    raw = pair.plain.image - blurred.image
    difference = np.float32(scale) * correlate(raw, psi, pair.plain.xy0)
    science_image = pair.plain.image if pair.convolve_template else blurred.image / np.float32(gain)
    science_white = correlate(science_image, psi, pair.plain.xy0)
    variance = np.float32(scale**2) * _variance(pair, kernel, psi)

    inner = pair.inner()
    base = masks.merged(inner.science, inner.template, *_coverage(pair, kernel))
    psf = smoothpsf.convolved(pair.plain_psf, psi)
    science = base.replace(image=science_white, variance=variance, psf=psf)
    template_image = blurred.image if pair.convolve_template else pair.plain.image / np.float32(gain)
    return Subtraction(
        science=science,
        matched=science.replace(image=science_white - difference),
        difference=science.replace(image=difference),
        matched_template=base.replace(
            image=template_image, variance=_template_variance(pair, kernel, gain), psf=pair.plain_psf
        ),
        science_share=_science_share(pair, kernel, psi, psf),
    )


def photometric_gain(pair: Pair, kernel: LinearCombinationKernel) -> float:
    """PSF flux of a source after the convolution over that before, both with PSFs of sum 1 on their stamps.

    The kernel sum of a kernel without a border; a kernel cut at its border loses the far wings, which a PSF
    flux does not see.
    """
    x, y = smoothpsf.centre(kernel.box)
    narrow, wide = pair.convolved_psf.kernel_image(x, y), pair.plain_psf.kernel_image(x, y)
    full = smoothpsf.full_convolution(narrow, kernel.at(x, y)[::-1, ::-1])
    edge = (full.shape[0] - wide.shape[0]) // 2
    inside = full[edge : edge + wide.shape[0], edge : edge + wide.shape[1]]
    return float((inside * wide).sum() / (wide**2).sum())


def _coverage(pair: Pair, kernel: LinearCombinationKernel) -> tuple[Any, Any]:
    """Pixels that the convolution could not make, and those that felt missing data, each (ny, nx), bool.

    Measured by the part of |K| that fell on data: below `_ENOUGH` there is no value worth having.
    """
    middle = np.abs(kernel.at(*smoothpsf.centre(kernel.box)))
    weight = LinearCombinationKernel(middle[None] / middle.sum(), np.ones((1, 1)), kernel.box)
    valid = (~pair.convolved.has("NO_DATA")).astype(np.float32)
    part = _inner(correlate(valid, weight, pair.convolved.xy0), pair.border)
    return part < _ENOUGH, part < _COMPLETE


def _psi(pair: Pair, kernel: LinearCombinationKernel) -> LinearCombinationKernel:
    """The whitening kernel for the typical variances of both images."""
    plain, convolved = _typical_variances(pair)
    return decorrelate.whitening(kernel, plain, convolved, pair.plain_power, pair.convolved_power)


def _typical_variances(pair: Pair) -> tuple[float, float]:
    """Median variances of the plain and of the convolved image."""
    plain, convolved = (
        float(np.median(e.variance[e.mask == 0])) if np.any(e.mask == 0) else float(np.median(e.variance))
        for e in (pair.plain, pair.convolved)
    )
    return plain, convolved


def _science_share(
    pair: Pair, kernel: LinearCombinationKernel, psi: LinearCombinationKernel, psf: KernelPsf
) -> float:
    """Part of the variance of a matched filter on the difference that is the science image's, mid-field."""
    at = smoothpsf.centre(kernel.box)
    chains = (
        decorrelate.blurred(psi, pair.plain_power),
        decorrelate.blurred(product(kernel, psi), pair.convolved_power),
    )
    stamp = psf.kernel_image(*at)
    plain, convolved = (
        variance * float((smoothpsf.full_convolution(stamp, chain.at(*at)) ** 2).sum())
        for variance, chain in zip(_typical_variances(pair), chains, strict=True)
    )
    return (plain if pair.convolve_template else convolved) / (plain + convolved)


def _variance(pair: Pair, kernel: LinearCombinationKernel, psi: LinearCombinationKernel) -> Any:
    chain = product(kernel, psi)
    plain = correlate(
        pair.plain.variance, squared(decorrelate.blurred(psi, pair.plain_power)), pair.plain.xy0
    )
    transfer = squared(decorrelate.blurred(chain, pair.convolved_power))
    convolved = correlate(pair.convolved.variance, transfer, pair.convolved.xy0)
    return plain + _inner(convolved, pair.border)


def _template_variance(pair: Pair, kernel: LinearCombinationKernel, gain: float) -> Any:
    """Variance a pixel of the matched template, on the science scale, before whitening."""
    if not pair.convolve_template:
        return pair.plain.variance / np.float32(gain**2)
    transfer = squared(decorrelate.blurred(kernel, pair.convolved_power))
    return _inner(correlate(pair.convolved.variance, transfer, pair.convolved.xy0), pair.border)


def _inner(image: Any, border: int) -> Any:
    return image[border:-border, border:-border] if border else image
