# SPDX-License-Identifier: BSD-3-Clause
"""Small square images around many sources at once: cut-outs of the pixels, and the PSF as it falls on them.

Every array has the source as its first axis. A stamp of half width ``h`` is (2 h + 1) pixels wide and centred
on the integer pixel given for its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import KernelPsf

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: Planes whose pixels hold nothing that can be measured.
UNUSABLE = ("BAD", "SAT", "SAT_TEMPLATE", "NO_DATA")

LANCZOS_ORDER = 5


@dataclass(frozen=True)
class Stamps:
    """Cut-outs around N sources.

    Attributes
    ----------
    image, variance : `numpy.ndarray`, (N, s, s), float64
        Pixels; 0 where not ``good``.
    good : `numpy.ndarray`, (N, s, s), bool
        On the image, finite, with a positive finite variance, and without `UNUSABLE` planes.
    inside : `numpy.ndarray`, (N, s, s), bool
        On the image.
    """

    image: Floats
    variance: Floats
    good: NDArray[np.bool_]
    inside: NDArray[np.bool_]

    @property
    def half(self) -> int:
        """Pixels from the centre to the edge."""
        return int(self.image.shape[-1]) // 2

    @property
    def offsets(self) -> Floats:
        """Pixel offsets from the centre along one axis, (s,)."""
        return np.arange(-self.half, self.half + 1, dtype=float)

    def signed(self, sign: Floats) -> Stamps:
        """The same stamps with the image of source n multiplied by ``sign[n]``."""
        return Stamps(self.image * sign[:, None, None], self.variance, self.good, self.inside)

    def trimmed(self, half: int) -> Stamps:
        """The middle of every stamp, ``half`` pixels to each side."""
        cut = slice(self.half - half, self.half + half + 1)
        return self[:, cut, cut]

    def __getitem__(self, key: Any) -> Stamps:
        return Stamps(self.image[key], self.variance[key], self.good[key], self.inside[key])


def cut(exposure: Exposure, x: Ints, y: Ints, half: int) -> Stamps:
    """Cut a stamp around each parent pixel (x, y).

    Parameters
    ----------
    exposure : `Exposure`
    x, y : `numpy.ndarray`, (N,), int
        Parent pixels of the centres; may lie off the image.
    half : `int`
        Pixels from the centre to the edge of the stamp.
    """
    ny, nx = exposure.shape
    steps = np.arange(-half, half + 1)
    columns = x[:, None] - exposure.xy0[0] + steps
    rows = y[:, None] - exposure.xy0[1] + steps
    on_x, on_y = (columns >= 0) & (columns < nx), (rows >= 0) & (rows < ny)
    at = np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]
    inside = on_y[:, :, None] & on_x[:, None, :]
    image, variance = exposure.image[at], exposure.variance[at]
    good = inside & usable(image, variance, exposure.mask[at], exposure.bits(*UNUSABLE))
    return Stamps(np.where(good, image, 0.0), np.where(good, variance, 0.0), good, inside)


def cut_both(
    exposure: Exposure, plane: NDArray[np.float32], x: Ints, y: Ints, half: int
) -> tuple[Stamps, Floats]:
    """As `cut`, with the same stamps of a plane on the exposure's grid; good where both are numbers."""
    stamps = cut(exposure, x, y, half)
    other = cut(exposure.replace(image=plane), x, y, half)
    good = stamps.good & other.good
    both = (np.where(good, part, 0.0) for part in (stamps.image, stamps.variance, other.image))
    image, variance, under = both
    return Stamps(image, variance, good, stamps.inside), under


def usable(image: NDArray[Any], variance: NDArray[Any], mask: NDArray[Any], bits: int) -> NDArray[np.bool_]:
    """Which pixels can be measured: finite, of a positive finite variance, with none of ``bits`` set."""
    clean = (mask & np.int32(bits)) == 0
    return np.asarray(clean & np.isfinite(image) & np.isfinite(variance) & (variance > 0))


def nearest_pixel(x: Floats) -> Ints:
    """The pixel that a position lies in, by afw's rule floor(x + 1/2)."""
    return np.floor(x + 0.5).astype(np.intp)


def kernel_images(psf: Any, x: Floats, y: Floats) -> Floats:
    """The PSF centred on the middle pixel of an odd stamp, sum 1, at N parent positions, (N, s, s)."""
    if isinstance(psf, KernelPsf):
        kernel = psf.kernel
        flat = kernel.weights(x, y) @ kernel.components.reshape(len(kernel.components), -1)
        images = flat.reshape(len(x), *kernel.components.shape[1:])
    else:
        images = np.stack([psf.kernel_image(float(px), float(py)) for px, py in zip(x, y, strict=True)])
    return _square(np.asarray(images / images.sum(axis=(1, 2), keepdims=True)))


def _square(images: Floats) -> Floats:
    """Pad the shorter side with zeros."""
    h, w = images.shape[1:]
    size = max(h, w)
    pad_y, pad_x = (size - h) // 2, (size - w) // 2
    return images if h == w else np.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x)))


def _taps(shift: Floats) -> tuple[Ints, Floats, Floats]:
    """The ten pixels that a Lanczos-5 interpolation uses, their weights (sum 1) and the weights' slopes."""
    pixels = np.floor(shift).astype(np.intp)[:, None] + np.arange(1 - LANCZOS_ORDER, 1 + LANCZOS_ORDER)
    t = pixels - shift[:, None]
    t = np.where(np.abs(t) < 1e-12, 1e-12, t)
    (a, da), (b, db) = _sinc(t), _sinc(t / LANCZOS_ORDER)
    weights = a * b
    norm = weights.sum(axis=1, keepdims=True)
    return pixels, weights / norm, (da * b + a * db / LANCZOS_ORDER) / norm


def _sinc(t: Floats) -> tuple[Floats, Floats]:
    """sin(πt)/(πt) and its derivative, t not 0."""
    angle = np.pi * t
    value = np.sin(angle) / angle
    return value, (np.cos(angle) - value) / t


def lanczos(shift: Floats, first: int, n_out: int, n_in: int) -> tuple[Floats, Floats]:
    """Matrices that resample n_in pixels, moved by a fraction, onto n_out pixels.

    ``out[i] = Σ_k in[k] L(i + first − k − shift) / Σ_k L(k − shift)`` with Lanczos-5, as afw shifts a PSF
    (afw's offsetImage), zero beyond the ends.

    Parameters
    ----------
    shift : `numpy.ndarray`, (N,)
        How far the input is moved, pixels.
    first : `int`
        Where the first output pixel lies, counted in input pixels.
    n_out, n_in : `int`
        Pixels of the output and of the input.

    Returns
    -------
    matrix, derivative : `numpy.ndarray`, (N, n_out, n_in)
        The matrices, and their derivatives with respect to ``shift``.
    """
    pixels, weights, slopes = _taps(shift)
    at = pixels - (first - n_in + 1)
    source, tap = np.nonzero((at >= 0) & (at < n_out + n_in - 1))
    lagged = np.zeros((2, len(shift), n_out + n_in - 1))
    lagged[0, source, at[source, tap]] = weights[source, tap]
    lagged[1, source, at[source, tap]] = -slopes[source, tap]
    toeplitz = np.arange(n_out)[:, None] - np.arange(n_in) + n_in - 1
    matrix, derivative = lagged[:, :, toeplitz]
    return matrix, derivative


def shifted(kernels: Floats, dx: Floats, dy: Floats, half: int) -> Floats:
    """PSF images moved by (dx, dy) pixels, on stamps of half width ``half``, (N, 2 half + 1, 2 half + 1)."""
    size = kernels.shape[-1]
    first, n_out = size // 2 - half, 2 * half + 1
    across, _ = lanczos(dx, first, n_out, size)
    along, _ = lanczos(dy, first, n_out, size)
    return np.asarray(along @ kernels @ across.transpose(0, 2, 1))


def shifted_with_slopes(kernels: Floats, dx: Floats, dy: Floats, half: int) -> tuple[Floats, Floats, Floats]:
    """As `shifted`, followed by the derivatives with respect to dx and dy."""
    size = kernels.shape[-1]
    first, n_out = size // 2 - half, 2 * half + 1
    across, d_across = (m.transpose(0, 2, 1) for m in lanczos(dx, first, n_out, size))
    along, d_along = lanczos(dy, first, n_out, size)
    rows = along @ kernels
    return rows @ across, rows @ d_across, d_along @ kernels @ across
