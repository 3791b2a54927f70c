# SPDX-License-Identifier: BSD-3-Clause
"""PSFs of whole images: their size, and smooth models that can be warped, convolved and stored.

A smooth PSF is a `KernelPsf` with one image per Chebyshev term, made by sampling any PSF on a grid of nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw.exposure import Frame, Psf
from diffrun.files.afw.kernel import LinearCombinationKernel, chebyshev_terms
from diffrun.files.afw.psf import KernelPsf

#: FWHM of a Gaussian in units of its sigma.
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
#: Part by which one PSF may be the wider and still be convolved as asked: no kernel sharpens by so little.
SAME_SEEING = 0.005

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]


def determinant_radius(stamp: Array, iterations: int = 100) -> float:
    """Sigma of the best-fitting elliptical Gaussian, det(M)^(1/4), in pixels.

    Adaptive moments of Bernstein and Jarvis (2002, AJ 123, 583) and Hirata and Seljak (2003, MNRAS 343,
    459): the weight is the Gaussian that has, up to the factor 2, the moments measured with it.

    Parameters
    ----------
    stamp : `numpy.ndarray`, (n, n), float64
        A centred PSF image.
    """
    half = (np.array(stamp.shape) - 1) / 2
    y, x = np.mgrid[: stamp.shape[0], : stamp.shape[1]]
    x, y = x - half[1], y - half[0]
    moments = np.eye(2) * 4.0
    for _ in range(iterations):
        inverse = np.linalg.inv(moments)
        r2 = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
        weighted = stamp * np.exp(-0.5 * r2)
        total = weighted.sum()
        xx, xy, yy = (weighted * x * x).sum(), (weighted * x * y).sum(), (weighted * y * y).sum()
        updated = 2 * np.array([[xx, xy], [xy, yy]]) / total
        if not np.all(np.isfinite(updated)) or np.linalg.det(updated) <= 0:
            break
        done = np.abs(updated - moments).max() < 1e-6 * moments.max()
        moments = updated
        if done:
            break
    return float(np.linalg.det(moments) ** 0.25)


def fwhm(psf: Psf, x: float, y: float) -> float:
    """FWHM in pixels at parent pixel (x, y): 2.3548 × the determinant radius, as the stack measures it."""
    return float(FWHM_PER_SIGMA * determinant_radius(np.asarray(psf.kernel_image(x, y))))


def nodes(box: Box, n: int = 4) -> tuple[Array, Array]:
    """Chebyshev nodes of a box, n × n of them, as flat x and y."""
    t = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    min_x, min_y, max_x, max_y = box
    gx = (min_x + max_x) / 2 + (max_x - min_x) / 2 * t
    gy = (min_y + max_y) / 2 + (max_y - min_y) / 2 * t
    xx, yy = np.meshgrid(gx, gy)
    return xx.ravel(), yy.ravel()


def fit_field(sample: Callable[[float, float], Array], box: Box, order: int) -> LinearCombinationKernel:
    """A kernel image that varies smoothly over a box, from samples at Chebyshev nodes.

    Parameters
    ----------
    sample : callable
        Gives the (n, n) image at a parent pixel (x, y).
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)`` of the field.
    order : `int`
        Highest order of the Chebyshev terms in x and y together.
    """
    xs, ys = nodes(box, order + 2)
    terms = chebyshev_terms(xs, ys, order, box)
    images = np.stack([sample(float(x), float(y)) for x, y in zip(xs, ys, strict=True)])
    solution = np.linalg.lstsq(terms, images.reshape(len(xs), -1), rcond=None)[0]
    components = np.asarray(solution, float).reshape(terms.shape[1], *images.shape[1:])
    return LinearCombinationKernel(components, np.eye(terms.shape[1]), box)


def field_box(exposure: Frame) -> tuple[float, float, float, float]:
    """The pixel edges of an exposure as a box in parent pixels."""
    (x0, y0), (ny, nx) = exposure.xy0, exposure.shape
    return x0 - 0.5, y0 - 0.5, x0 + nx - 0.5, y0 + ny - 0.5


def centre(box: Box) -> tuple[float, float]:
    """Middle of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def smooth(psf: Psf, box: Box, half: int, order: int = 2) -> KernelPsf:
    """The smooth model of a PSF over a box, on a stamp of side ``2 half + 1``."""
    return KernelPsf(fit_field(lambda x, y: resized(psf.kernel_image(x, y), half), box, order), centre(box))


def resized(stamp: Array, half: int) -> Array:
    """A centred stamp cropped or zero-padded to side ``2 half + 1`` and scaled to sum 1."""
    out = np.zeros((2 * half + 1, 2 * half + 1))
    hy, hx = stamp.shape[0] // 2, stamp.shape[1] // 2
    ky, kx = min(half, hy), min(half, hx)
    out[half - ky : half + ky + 1, half - kx : half + kx + 1] = stamp[
        hy - ky : hy + ky + 1, hx - kx : hx + kx + 1
    ]
    return np.asarray(out / out.sum())


def warped(
    psf: Psf,
    to_source: Callable[[Array, Array], tuple[Array, Array]],
    box: Box,
    half: int,
    order: int = 2,
) -> KernelPsf:
    """The PSF of an image after warping, over the box of the target image.

    Parameters
    ----------
    psf : `Psf`
        PSF in source parent pixels.
    to_source : callable
        Source parent pixels of target parent pixels, ``(x, y) -> (x, y)``.
    box : `tuple` of `float`
        Field of the target image, target parent pixels.
    half : `int`
        Half width of the stamps.
    order : `int`
        Order of the spatial variation.
    """
    from scipy.ndimage import map_coordinates  # SciPy only where needed: the survey has no use for it

    offsets = np.arange(-half, half + 1, dtype=float)
    dx, dy = np.meshgrid(offsets, offsets)

    def sample(x: float, y: float) -> Array:
        sx, sy = to_source(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        stamp = psf.kernel_image(float(sx[0]), float(sy[0]))
        u = (sx[1] - sx[0]) * dx + (sx[2] - sx[0]) * dy + stamp.shape[1] // 2
        v = (sy[1] - sy[0]) * dx + (sy[2] - sy[0]) * dy + stamp.shape[0] // 2
        image = map_coordinates(stamp, [v, u], order=5, mode="constant")
        return np.asarray(image / image.sum())

    return KernelPsf(fit_field(sample, box, order), centre(box))


def convolved(psf: KernelPsf, kernel: LinearCombinationKernel) -> KernelPsf:
    """The PSF after the image was convolved with a kernel that varies over the field.

    The kernel is applied as afw applies it, out(x) = Σ_j K(j) in(x + j), so the PSF is correlated with it.
    """
    box = psf.kernel.box

    def sample(x: float, y: float) -> Array:
        stamp = _correlated(psf.kernel_image(x, y), kernel.at(x, y))
        return np.asarray(stamp / stamp.sum())

    order = max(psf.kernel.order, kernel.order)
    return KernelPsf(fit_field(sample, box, order), psf.average_position)


def _correlated(stamp: Array, kernel: Array) -> Array:
    """out(x) = Σ_u K(u) stamp(x + u) on the stamp's pixels; both have odd sides."""
    import scipy.fft

    full = [n + m - 1 for n, m in zip(stamp.shape, kernel.shape, strict=True)]
    product = scipy.fft.rfft2(stamp, s=full) * scipy.fft.rfft2(kernel[::-1, ::-1], s=full)
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    convolved = scipy.fft.irfft2(product, s=full)
    return np.asarray(convolved[top : top + stamp.shape[0], left : left + stamp.shape[1]])


def full_convolution(first: Array, second: Array) -> Array:
    """Convolution of two odd stamps without loss at the borders; side n1 + n2 - 1."""
    import scipy.fft

    shape = [a + b - 1 for a, b in zip(first.shape, second.shape, strict=True)]
    fast = [scipy.fft.next_fast_len(n, real=True) for n in shape]
    full = scipy.fft.irfft2(scipy.fft.rfft2(first, s=fast) * scipy.fft.rfft2(second, s=fast), s=fast)
    return np.asarray(full[: shape[0], : shape[1]])
