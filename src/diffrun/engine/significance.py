# SPDX-License-Identifier: BSD-3-Clause
"""How significant a source at a pixel of a difference would be.

The matched filter of the difference's own PSF, S = Σ φ D / √(Σ φ² V): no statistic is better for a point
source in white noise, which is what decorrelation leaves (Zackay, Ofek and Gal-Yam 2016, ApJ 830, 27). To
the noise in the denominator comes what an imperfect match of the PSFs leaves of bright stars, ε² times the
contrast Σ φ M² − (Σ φ M)² of the matched template M under the PSF: what a kernel that is wrong by random
numbers of sum 0 leaves of M, much at a star's flanks and nothing of a smooth galaxy or sky.

Few pixels are significant, so the filter is run twice: `preview` over the whole image with one PSF, a coarse
noise map and eighths of a sigma as result, and `Filter.at` where it matters, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from diffrun.engine.stamps import kernel_images
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import KernelPsf
from diffrun.threads import bands, each

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.int32]
Floats = NDArray[np.float64]

#: Pixels that tell nothing about a source: left out of the filter, as if the image ended there.
MISSING_PLANES = ("NO_DATA", "SAT", "SAT_TEMPLATE")
#: Unit of the preview, and its largest value, which stands for all that is more.
STEPS_A_SIGMA, LARGEST = 8, 127
#: Part of the true significance that the preview shows at least.
PREVIEW_SHOWS = 0.85
#: Side of the squares over which one PSF is taken, and of the blocks of the coarse noise map (odd), pixels.
_TILE, _BLOCK = 128, 3
#: Part of the power of the PSF that the preview may lose, in its border and in its rank.
_LOST = 2e-3
#: Part of its power that the exact filter may lose in its border: it lowers the significance by half of that.
_EXACT = 1e-6
#: Part of the median noise below which a pixel has too little of the PSF on data.
_FLOOR = 1e-3
#: Rows of a band, and pixels of the exact filter, which one thread does at a time.
_STRIP, _AT_ONCE = 64, 512


@dataclass(frozen=True)
class Filter:
    """The exact matched filter.

    Attributes
    ----------
    exposure : `Exposure`
        The difference, with its PSF.
    science : `numpy.ndarray`, (ny, nx), float32
        The science image; the matched template is this less the difference.
    """

    exposure: Exposure
    science: Float

    def at(self, rows: Index, columns: Index) -> Sums:
        """The sums of the filter at pixels of the array, (n,) each."""
        ny, nx = self.exposure.shape
        tiles_y, tiles_x = -(-ny // _TILE), -(-nx // _TILE)
        y, x = (np.mgrid[:tiles_y, :tiles_x].reshape(2, -1) + 0.5) * _TILE - 0.5
        kernels = kernel_images(self.exposure.psf, x + self.exposure.xy0[0], y + self.exposure.xy0[1])
        cut = (kernels.shape[1] - len(_core(kernels[len(kernels) // 2], _EXACT))) // 2
        kernels = kernels[:, cut:-cut, cut:-cut] if cut else kernels
        tile = rows // _TILE * tiles_x + columns // _TILE
        e = self.exposure
        missing, kernels = e.bits(*MISSING_PLANES), np.ascontiguousarray(kernels, np.float32)
        sums = np.zeros((3, len(rows)))

        def do(some: tuple[int, int]) -> None:
            _sums(
                e.image, e.variance, self.science, e.mask, missing, kernels, tile, rows, columns, some, sums
            )  # fmt: skip

        each(do, bands(len(rows), _AT_ONCE))
        return Sums(*sums)


@dataclass(frozen=True)
class Sums:
    """Σ φ D, Σ φ² V and the contrast of M at n pixels, each (n,), float64."""

    signal: Floats
    noise2: Floats
    contrast2: Floats

    def snr(self, error: float = 0.0) -> Floats:
        """The significance, with a relative error ε of the matched template; 0 where there is no noise."""
        variance = self.noise2 + error**2 * self.contrast2
        ok = variance > 0
        return np.where(ok, self.signal / np.sqrt(np.where(ok, variance, 1.0)), 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sums(image, variance, science, mask, missing, kernels, tile, rows, columns, some, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx = image.shape
    size = kernels.shape[1]
    half = size // 2
    for k in range(*some):
        # One sum a column of the stamp, added at the end: the compiler may then do eight at a time.
        d, v, p = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
        m1, m2 = np.zeros(size, np.float32), np.zeros(size, np.float32)
        x = columns[k] - half
        left, right = max(0, -x), min(size, nx - x)
        for j in range(max(0, half - rows[k]), min(size, ny - rows[k] + half)):
            y = rows[k] - half + j
            line, noise = image[y, x + left : x + right], variance[y, x + left : x + right]
            under, bits = science[y, x + left : x + right], mask[y, x + left : x + right]
            phi = kernels[tile[k], j, left:right]
            for i in range(right - left):
                w = phi[i] if bits[i] & missing == 0 else np.float32(0)
                m = under[i] - line[i]
                d[i] += w * line[i]
                v[i] += w * w * noise[i]
                m1[i] += w * m
                m2[i] += w * m * m
                p[i] += w
        total = p.sum()
        if mask[rows[k], columns[k]] & missing == 0 and total > 0:
            sums[0, k], sums[1, k] = d.sum(), v.sum()
            sums[2, k] = max(0.0, m2.sum() * total - m1.sum() ** 2)


@dataclass(frozen=True)
class Preview:
    """The significance everywhere, roughly.

    Attributes
    ----------
    level : `numpy.ndarray`, (ny, nx), int8
        Eighths of a sigma, at most 127; 0 where a pixel is missing.
    noise : `float`
        Median noise of the filter, in the image's unit.
    moved_by : `float`
        Largest level that the image has lost since.
    """

    level: NDArray[np.int8]
    noise: float
    moved_by: float = 0.0

    def moved(self, level: float) -> Preview:
        """The preview of an image of which up to this level was taken off meanwhile."""
        return replace(self, moved_by=self.moved_by + level)

    def below(self, sigmas: float) -> Bool:
        """Where the significance of either sign is less."""
        limit = int(sigmas * STEPS_A_SIGMA)
        return np.asarray(np.abs(self.level) < limit)

    def over(self, sigmas: float) -> tuple[Index, Index]:
        """Rows and columns of the pixels that may be that significant, in the order of the image."""
        least = sigmas * PREVIEW_SHOWS - self.moved_by / self.noise
        limit = min(max(1, int(least * STEPS_A_SIGMA)), LARGEST)
        flat = np.flatnonzero(np.abs(self.level) >= limit)
        rows, columns = np.divmod(flat, self.level.shape[1])
        return rows.astype(np.int32), columns.astype(np.int32)


def preview(exposure: Exposure, psf: KernelPsf) -> Preview:
    """Filter an image with the PSF of its middle."""
    stamp = _core(psf.kernel_image(*psf.average_position))
    u, s, v = np.linalg.svd(stamp)
    rank = 1 + int(np.argmax(1 - np.cumsum(s**2) / (s**2).sum() < _LOST))
    across, along = (v[:rank] * s[:rank, None]).astype(np.float32), u[:, :rank].T.astype(np.float32)
    missing = exposure.bits(*MISSING_PLANES)
    noise2 = _coarse_noise(exposure, np.asarray(along.T @ across, float))
    middle = float(np.median(noise2))
    level = np.zeros(exposure.shape, np.int8)
    along, floor = np.ascontiguousarray(along), np.float32(max(_FLOOR * middle, 1e-30))

    def do(band: tuple[int, int]) -> None:
        _filter(exposure.image, exposure.mask, missing, across, along, noise2, floor, band, level)

    each(do, bands(len(level), _STRIP))
    return Preview(level, middle**0.5)


def _core(stamp: Floats, lost: float = _LOST) -> Floats:
    """The middle of a PSF that holds all of its power but a part that does not matter; odd side, sum 1."""
    half = stamp.shape[0] // 2
    total = float((stamp**2).sum())
    for reach in range(_BLOCK, half):
        core = stamp[half - reach : half + reach + 1, half - reach : half + reach + 1]
        if (core**2).sum() > (1 - lost) * total:
            return np.asarray(core / core.sum())
    return np.asarray(stamp / stamp.sum())


def _coarse_noise(exposure: Exposure, weights: Floats) -> Float:
    """Σ w² V at the middles of blocks of 3 x 3 pixels, (ceil(ny / 3), ceil(nx / 3)), float32."""
    blocks = np.zeros([-(-n // _BLOCK) for n in exposure.shape], np.float32)
    missing = exposure.bits(*MISSING_PLANES)
    each(
        lambda band: _block_means(exposure.variance, exposure.mask, missing, _BLOCK, band, blocks),
        bands(len(blocks), _STRIP),
    )
    half = len(weights) // 2
    reach = (half - _BLOCK // 2 + _BLOCK - 1) // _BLOCK
    side = _BLOCK * (2 * reach + 1)
    padded = np.pad(weights**2, (side - len(weights)) // 2)
    coarse = padded.reshape(2 * reach + 1, _BLOCK, 2 * reach + 1, _BLOCK).sum(axis=(1, 3))
    u, s, v = np.linalg.svd(coarse)
    out = np.zeros_like(blocks)
    for k in range(2):
        line = correlate1d(blocks, v[k] * s[k], axis=1, mode="constant")
        out += correlate1d(line, u[:, k], axis=0, mode="constant")
    return np.asarray(out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _block_means(variance, mask, missing, block, band, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Means over blocks, missing pixels counted as 0."""
    ny, nx = variance.shape
    for j in range(*band):
        for y in range(j * block, min(ny, (j + 1) * block)):
            for x in range(nx):
                if mask[y, x] & missing == 0:
                    out[j, x // block] += variance[y, x] / np.float32(block * block)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _filter(image, mask, missing, across, along, noise2, floor, band, level):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Separable filters of one rank each, summed, over the noise between the middles of the blocks."""
    ny, nx = image.shape
    rank, size = across.shape
    half = size // 2
    top, bottom = band
    padded = np.zeros(nx + 2 * half, np.float32)
    lines = np.zeros((rank, bottom - top + 2 * half, nx), np.float32)
    for y in range(max(0, top - half), min(ny, bottom + half)):
        for x in range(nx):
            padded[half + x] = image[y, x] if mask[y, x] & missing == 0 else np.float32(0)
        for r in range(rank):
            line = lines[r, y - top + half]
            for i in range(size):
                w = across[r, i]
                for x in range(nx):
                    line[x] += w * padded[x + i]
    total, noise = np.empty(nx, np.float32), np.empty(noise2.shape[1], np.float32)
    for y in range(top, bottom):
        total[:] = 0
        for r in range(rank):
            for j in range(size):
                w = along[r, j]
                line = lines[r, y - top + j]
                for x in range(nx):
                    total[x] += w * line[x]
        _between(noise2, y, noise)
        _quantise(total, noise, floor, mask[y], missing, level[y])


@numba.njit(inline="always")
def _between(noise2, y, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The noise of a row of pixels at the middles of the blocks along it."""
    at = min(max((y - _BLOCK // 2) / _BLOCK, 0.0), noise2.shape[0] - 1.0)
    j = min(int(at), max(noise2.shape[0] - 2, 0))
    part = np.float32(at - j)
    below = noise2[min(j + 1, noise2.shape[0] - 1)]
    for i in range(len(out)):
        out[i] = noise2[j, i] + part * (below[i] - noise2[j, i])


@numba.njit(inline="always")
def _quantise(total, noise, floor, mask, missing, level):  # type: ignore[no-untyped-def]  # pragma: no cover
    last = len(noise) - 1
    for x in range(len(total)):
        i = max(x - _BLOCK // 2, 0) // _BLOCK
        part = np.float32(x - _BLOCK // 2 - i * _BLOCK) / np.float32(_BLOCK)
        n = noise[i] + max(part, np.float32(0)) * (noise[min(i + 1, last)] - noise[i])
        if n > floor and mask[x] & missing == 0:
            s = np.float32(STEPS_A_SIGMA) * total[x] / np.sqrt(n)
            level[x] = np.int8(min(max(s, np.float32(-LARGEST)), np.float32(LARGEST)))
