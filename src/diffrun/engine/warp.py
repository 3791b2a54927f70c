# SPDX-License-Identifier: BSD-3-Clause
"""Resampling of the template onto the pixels of the science image.

Separable Lanczos interpolation with the flux conserved, as ``lsst.afw.math.warpExposure`` does it
(value = Σ w·pixel · A / Σ w, with A the area of the target pixel in source pixels). The variance is carried
as that of the source pixels, not as Σ w²·variance: interpolation only hides noise in the correlation of
neighbours. What it hides is described by `Resampling.power`, for the decorrelation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from diffrun.engine.masks import with_planes
from diffrun.engine.overlap import no_overlap
from diffrun.files.afw.exposure import Exposure, Frame, Wcs
from diffrun.threads import bands, each

#: Planes that belong to the template alone; all others, known or not, stay with its pixels.
LEFT_BEHIND = ("SAT", "DETECTED", "DETECTED_NEGATIVE", "NOT_DEBLENDED")
#: The template's saturation under a name of its own, as in today's ip_diffim (DM-38901).
TEMPLATE_SATURATED = "SAT_TEMPLATE"
_ROWS = 128  # of a band, which one thread does at a time
_PHASES = 512  # rows of the table of Lanczos weights a pixel; linear between them, good to 1e-6


@dataclass(frozen=True)
class Resampling:
    """How the target grid falls onto the source pixels.

    Attributes
    ----------
    order : `int`
        Order ``a`` of the Lanczos kernel.
    step : `int`
        Distance of the nodes in target pixels.
    x, y : `numpy.ndarray`, (my, mx), float64
        Source array coordinates of the nodes.
    """

    order: int
    step: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @property
    def jacobian(self) -> NDArray[np.float64]:
        """∂(x, y) in the source by ∂(x, y) in the target, (2, 2), at the centre."""
        row, column = self.x.shape[0] // 2, self.x.shape[1] // 2
        along_x = [plane[row, column] - plane[row, column - 1] for plane in (self.x, self.y)]
        along_y = [plane[row, column] - plane[row - 1, column] for plane in (self.x, self.y)]
        return np.array([along_x, along_y]).T / self.step

    @property
    def area(self) -> float:
        """Area of a target pixel in source pixels, at the centre."""
        return float(abs(np.linalg.det(self.jacobian)))

    def phase_powers(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Power transfer of the interpolation along the source's x and y, (phases, n, n) each.

        The phases are those of `PHASES`; |L|² at (fx, fy) is the product of the two. The (n, n) frequencies
        are those of an FFT over the target's pixels.
        """
        frequency = np.fft.fftfreq(n)
        inverse = np.linalg.inv(self.jacobian)
        in_x = inverse[0, 0] * frequency[None, :] + inverse[1, 0] * frequency[:, None]
        in_y = inverse[0, 1] * frequency[None, :] + inverse[1, 1] * frequency[:, None]
        table = lanczos_table(self.order)[(PHASES * _PHASES + 0.5).astype(int)]
        taps = np.arange(table.shape[1])[:, None, None]
        x, y = (
            np.abs(np.tensordot(table, np.exp(-2j * np.pi * taps * f), axes=1)) ** 2 for f in (in_x, in_y)
        )
        return x, y

    def phase_weights(self) -> NDArray[np.float64]:
        """How often each pair of phases occurs over the field, (phases of y, phases of x), sum 1."""
        weights = np.zeros((len(PHASES), len(PHASES)))
        rows = np.linspace(0, self.x.shape[0] - 1, min(64, self.x.shape[0])).astype(int)
        columns = np.linspace(0, self.x.shape[1] - 1, min(64, self.x.shape[1])).astype(int)
        places = [plane[np.ix_(rows, columns)].ravel() % 1.0 for plane in (self.x, self.y)]
        (ix, tx), (iy, ty) = (_between_nodes(np.minimum(f, 1 - f)) for f in places)
        for dy, wy in ((0, 1 - ty), (1, ty)):
            for dx, wx in ((0, 1 - tx), (1, tx)):
                np.add.at(weights, (iy + dy, ix + dx), wy * wx)
        return np.asarray(weights / weights.sum())

    def power(self, n: int) -> NDArray[np.float64]:
        """Mean power transfer |L|² of the interpolation, on an (n, n) FFT grid of target pixels.

        The mean is over the sub-pixel phases that really occur: white noise in the source has this power
        spectrum after the warp, up to its variance.
        """
        in_x, in_y = self.phase_powers(n)
        return np.asarray((np.tensordot(self.phase_weights(), in_x, axes=1) * in_y).sum(axis=0))

    def phases(self, rows: slice, columns: slice, border: int) -> NDArray[np.float32]:
        """cos 2πf of the phases of x and of y at target pixels, (2, ny, nx); rows start at ``border``."""
        shape = rows.stop - rows.start, columns.stop - columns.start
        out = np.empty((2, *shape), np.float32)
        _cosines(self.x, self.y, self.step, rows.start + border, columns.start + border, _COSINES, out)
        return out


#: Sub-pixel phases at which interpolation is looked at; its power is the same at f and 1 - f.
PHASES = np.linspace(0.0, 0.5, 17)
_COSINES = np.cos(2 * np.pi * np.arange(4097) / 4096).astype(np.float32)


def _between_nodes(phase: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The node of `PHASES` below, and the part of the way to the next."""
    place = phase / PHASES[1]
    node = np.minimum(place.astype(int), len(PHASES) - 2)
    return node, place - node


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _cosines(gx, gy, step, top, left, table, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for j in range(out.shape[1]):
        row = (top + j) // step
        v = (top + j - row * step) / step
        for i in range(out.shape[2]):
            column = (left + i) // step
            u = (left + i - column * step) / step
            for axis in range(2):
                g = gx if axis == 0 else gy
                before = (1 - v) * g[row, column] + v * g[row + 1, column]
                after = (1 - v) * g[row, column + 1] + v * g[row + 1, column + 1]
                place = (1 - u) * before + u * after
                out[axis, j, i] = table[int((place - np.floor(place)) * (len(table) - 1) + 0.5)]


@dataclass(frozen=True)
class Warped:
    """A template on the science grid, and how it came there."""

    exposure: Exposure
    resampling: Resampling


def lanczos_table(order: int) -> NDArray[np.float64]:
    """Normalised Lanczos weights by phase, (513, 2 order): taps at -order + 1 ... order."""
    phase = np.arange(_PHASES + 1)[:, None] / _PHASES
    t = phase - np.arange(-order + 1, order + 1)[None, :]
    weights = np.where(np.abs(t) < order, np.sinc(t) * np.sinc(t / order), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def resampling(
    template: Exposure, wcs: Wcs, xy0: tuple[int, int], shape: tuple[int, int], order: int, step: int
) -> Resampling:
    """Map the target grid onto the template: exact at the nodes of a grid, bilinear between."""
    ny, nx = shape
    gx = np.arange(0, nx + step, step, dtype=float)
    gy = np.arange(0, ny + step, step, dtype=float)
    xx, yy = np.meshgrid(gx + xy0[0], gy + xy0[1])
    ra, dec = wcs.pixel_to_sky(xx.ravel(), yy.ravel())
    sx, sy = template.wcs.sky_to_pixel(ra, dec)
    x = np.reshape(sx, xx.shape) - template.xy0[0]
    y = np.reshape(sy, xx.shape) - template.xy0[1]
    return Resampling(order, step, x, y)


@numba.njit(inline="always")
def _weigh(table, phase, weights, taps):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Lanczos weights at a phase of 0 to 1, linear between the rows of the table."""
    position = phase * np.float32(table.shape[0] - 1)
    row = min(int(position), table.shape[0] - 2)  # a phase just under 1 is 1 in single precision
    part = position - np.float32(row)
    for k in range(taps):
        weights[k] = table[row, k] + part * (table[row + 1, k] - table[row, k])


@numba.njit(inline="always")
def _weighted_sum(image, top, left, wx, wy, taps):  # type: ignore[no-untyped-def]  # pragma: no cover
    total = np.float32(0)
    for m in range(taps):
        line = np.float32(0)
        for k in range(taps):
            line += wx[k] * image[top + m, left + k]
        total += wy[m] * line
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _interpolate(image, variance, mask, gx, gy, step, table, bits_of, area, band, out, out_var, out_mask):  # type: ignore[no-untyped-def]  # pragma: no cover
    saturated, moved, carried, no_data = bits_of
    ny, nx = image.shape
    taps = table.shape[1]
    reach = taps // 2
    one = np.float32(1)
    wx, wy = np.empty(16, np.float32), np.empty(16, np.float32)
    for j in range(*band):
        row = j // step
        v = (j - row * step) / step
        for column in range(gx.shape[1] - 1):  # along a row the coordinates are linear between two nodes
            x0 = (1 - v) * gx[row, column] + v * gx[row + 1, column]
            y0 = (1 - v) * gy[row, column] + v * gy[row + 1, column]
            dx = ((1 - v) * gx[row, column + 1] + v * gx[row + 1, column + 1] - x0) / step
            dy = ((1 - v) * gy[row, column + 1] + v * gy[row + 1, column + 1] - y0) / step
            first = column * step
            for i in range(first, min(first + step, out.shape[1])):
                x, y = x0 + (i - first) * dx, y0 + (i - first) * dy
                ix, iy = int(np.floor(x)), int(np.floor(y))
                if ix < reach - 1 or iy < reach - 1 or ix + reach >= nx or iy + reach >= ny:
                    out[j, i] = 0.0
                    out_var[j, i] = 0.0
                    out_mask[j, i] = no_data
                    continue
                tx, ty = np.float32(x - ix), np.float32(y - iy)
                if taps == 6:  # a count that the compiler knows makes the default kernel twice as fast
                    _weigh(table, tx, wx, 6)
                    _weigh(table, ty, wy, 6)
                    out[j, i] = area * _weighted_sum(image, iy - 2, ix - 2, wx, wy, 6)
                else:
                    _weigh(table, tx, wx, taps)
                    _weigh(table, ty, wy, taps)
                    out[j, i] = area * _weighted_sum(image, iy - reach + 1, ix - reach + 1, wx, wy, taps)
                top = (one - tx) * variance[iy, ix] + tx * variance[iy, ix + 1]
                bottom = (one - tx) * variance[iy + 1, ix] + tx * variance[iy + 1, ix + 1]
                out_var[j, i] = (area * area) * ((one - ty) * top + ty * bottom)
                bits = mask[iy, ix] | mask[iy, ix + 1] | mask[iy + 1, ix] | mask[iy + 1, ix + 1]
                out_mask[j, i] = (bits & carried) | (moved if bits & saturated else 0)


def warp(template: Exposure, science: Frame, border: int = 0, order: int = 3, step: int = 10) -> Warped:
    """Resample a template onto the grid of a science exposure, grown by a border.

    Parameters
    ----------
    template : `Exposure`
        Finite everywhere (see `diffrun.engine.masks.fill`), with the sky at 0.
    science : `Frame`
        Gives the WCS, the origin and the shape.
    border : `int`
        Pixels added on each side, so that a convolution has what it needs at the edges.
    order : `int`
        Order of the Lanczos kernel.
    step : `int`
        Distance in pixels at which the WCS is evaluated, afw's ``interpLength``.

    Returns
    -------
    warped : `Warped`
        Where the template does not reach: 0, variance 0, NO_DATA.

    Raises
    ------
    NoOverlapError
        When no pixel of the science image is covered.
    """
    xy0 = (science.xy0[0] - border, science.xy0[1] - border)
    shape = (science.shape[0] + 2 * border, science.shape[1] + 2 * border)
    grid = resampling(template, science.wcs, xy0, shape, order, step)
    planes = with_planes(template.planes, "NO_DATA", TEMPLATE_SATURATED)
    image, variance = (np.empty(shape, np.float32) for _ in range(2))
    bits = np.empty(shape, np.int32)
    carried = sum(1 << bit for name, bit in planes.items() if name not in LEFT_BEHIND)
    no_data = np.int32(1 << planes["NO_DATA"])
    bits_of = np.array([template.bits("SAT"), 1 << planes[TEMPLATE_SATURATED], carried, no_data], np.int32)
    table, area = lanczos_table(order).astype(np.float32), np.float32(grid.area)

    inner = np.s_[border : shape[1] - border]
    covered: list[bool] = []

    def do(band: tuple[int, int]) -> None:
        _interpolate(
            template.image, template.variance, template.mask, grid.x, grid.y, grid.step, table, bits_of, area,
            band, image, variance, bits,
        )  # fmt: skip
        rows = slice(max(band[0], border), min(band[1], shape[0] - border))
        covered.append(bool(((bits[rows, inner] & no_data) == 0).any()))

    each(do, bands(shape[0], _ROWS))
    if not any(covered):
        raise no_overlap()
    exposure = template.replace(
        image=image, variance=variance, mask=bits, planes=planes, wcs=science.wcs, xy0=xy0, psf=None
    )
    return Warped(exposure, grid)
