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

from diffrun.engine.masks import free_bit
from diffrun.errors import NoOverlapError
from diffrun.files.afw.exposure import Exposure, Wcs

#: Planes of the template that stay with its pixels; DETECTED and the like belong to the template alone.
CARRIED_PLANES = ("BAD", "INTRP", "CR", "NO_DATA", "SUSPECT", "EDGE")
#: The template's saturation under a name of its own, as in today's ip_diffim (DM-38901).
TEMPLATE_SATURATED = "SAT_TEMPLATE"
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
    area : `float`
        Area of a target pixel in source pixels, at the centre.
    """

    order: int
    step: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: float

    def power(self, n: int) -> NDArray[np.float64]:
        """Mean power transfer |L|² of the interpolation, on an (n, n) FFT grid.

        The mean is over the sub-pixel phases that really occur: white noise in the source has this power
        spectrum after the warp, up to its variance.
        """
        rows = np.linspace(0, self.x.shape[0] - 1, min(64, self.x.shape[0])).astype(int)
        columns = np.linspace(0, self.x.shape[1] - 1, min(64, self.x.shape[1])).astype(int)
        fx = self.x[np.ix_(rows, columns)].ravel() % 1.0
        fy = self.y[np.ix_(rows, columns)].ravel() % 1.0
        table = lanczos_table(self.order)
        frequencies = np.exp(-2j * np.pi * np.outer(np.arange(2 * self.order), np.fft.fftfreq(n)))
        px = np.abs(table[(fx * _PHASES + 0.5).astype(int)] @ frequencies) ** 2
        py = np.abs(table[(fy * _PHASES + 0.5).astype(int)] @ frequencies) ** 2
        return np.asarray(py.T @ px / len(fx))


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
    my, mx = x.shape[0] // 2, x.shape[1] // 2
    jacobian = np.array(
        [
            [x[my, mx] - x[my, mx - 1], x[my, mx] - x[my - 1, mx]],
            [y[my, mx] - y[my, mx - 1], y[my, mx] - y[my - 1, mx]],
        ]
    )
    return Resampling(order, step, x, y, float(abs(np.linalg.det(jacobian))) / step**2)


@numba.njit(inline="always")
def _weigh(table, phase, weights, taps):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Lanczos weights at a phase of 0 to 1, linear between the rows of the table."""
    position = phase * np.float32(table.shape[0] - 1)
    row = int(position)
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


@numba.njit(cache=True, parallel=True, error_model="numpy", fastmath=False)
def _interpolate(image, variance, mask, gx, gy, step, table, carried, no_data, area, out, out_var, out_mask):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx = image.shape
    taps = table.shape[1]
    reach = taps // 2
    one = np.float32(1)
    for j in numba.prange(out.shape[0]):
        wx, wy = np.empty(16, np.float32), np.empty(16, np.float32)
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
                out_mask[j, i] = bits & carried


def warp(template: Exposure, science: Exposure, border: int = 0, order: int = 3, step: int = 10) -> Warped:
    """Resample a template onto the grid of a science exposure, grown by a border.

    Parameters
    ----------
    template : `Exposure`
        Finite everywhere (see `diffrun.engine.masks.fill`), with the sky at 0.
    science : `Exposure`
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
    planes, mask = _template_planes(template)
    image, variance = (np.empty(shape, np.float32) for _ in range(2))
    bits = np.empty(shape, np.int32)
    carried = np.int32(
        sum(1 << planes[name] for name in (*CARRIED_PLANES, TEMPLATE_SATURATED) if name in planes)
    )
    no_data = np.int32(1 << planes["NO_DATA"])
    _interpolate(
        template.image,
        template.variance,
        mask,
        grid.x,
        grid.y,
        grid.step,
        lanczos_table(order).astype(np.float32),
        carried,
        no_data,
        np.float32(grid.area),
        image,
        variance,
        bits,
    )
    if np.all(bits[border : shape[0] - border, border : shape[1] - border] & no_data):
        raise NoOverlapError(
            "the template does not overlap the science image at all", "choose two visits of the same sky"
        )
    exposure = template.replace(
        image=image, variance=variance, mask=bits, planes=planes, wcs=science.wcs, xy0=xy0, psf=None
    )
    return Warped(exposure, grid)


def _template_planes(template: Exposure) -> tuple[dict[str, int], NDArray[np.int32]]:
    """The template's mask with its saturation moved to a plane of its own."""
    planes = dict(template.planes)
    planes.setdefault("NO_DATA", free_bit(planes))
    planes.setdefault(TEMPLATE_SATURATED, free_bit(planes))
    saturated = np.int32(template.bits("SAT"))
    if not saturated:
        return planes, template.mask
    moved = np.int32(1 << planes[TEMPLATE_SATURATED])
    return planes, np.where(template.mask & saturated, (template.mask & ~saturated) | moved, template.mask)
