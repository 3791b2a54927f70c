# SPDX-License-Identifier: BSD-3-Clause
"""The stars of a visit that could tell the matching kernel, and how those of two visits lie to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import candidates
from diffrun.engine.glance import Look
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure

#: Fewest stars that tell the seeing, or a shift; most that are compared.
_FEWEST_STARS, _MOST_STARS = 5, 400
#: Stars in the common part of both images that must lie on each other, if their WCS are right.
_FEWEST_TOLD = 12

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stars:
    """Stars that could tell the matching kernel, brightest first.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,), float64
        Parent pixels.
    flux : `numpy.ndarray`, (n,), float64
        PSF flux in counts where there is a ``src``, else the S/N.
    seen : `float`
        The part of the image that was looked at; 1 where there is a ``src``.
    fwhm : `float`
        Median FWHM of the stars as ``src`` has it, pixels; NaN where it has not.
    of_src : `bool`
    """

    x: Array
    y: Array
    flux: Array
    seen: float
    fwhm: float
    of_src: bool

    def __len__(self) -> int:
        return len(self.x)


def of_sources(catalog: Catalog, minimum_snr: float) -> Stars:
    """The stars of a ``src`` table, with the flux and the size that it gives them."""
    rows = np.flatnonzero(candidates.chosen(catalog, minimum_snr)[0])
    flux = np.asarray(catalog.flux("slot_PsfFlux")[0], float)
    x, y = (np.asarray(catalog[f"slot_Centroid_{axis}"], float) for axis in "xy")
    order = rows[np.argsort(-flux[rows], kind="stable")]
    return Stars(x[order], y[order], flux[order], 1.0, _fwhm(catalog, rows), True)


def _fwhm(catalog: Catalog, rows: NDArray[Any]) -> float:
    """Median FWHM of some rows, by their adaptive moments."""
    names = [f"slot_Shape_{part}" for part in ("xx", "yy", "xy")]
    if not all(name in catalog for name in names) or len(rows) < _FEWEST_STARS:
        return np.nan
    xx, yy, xy = (np.asarray(catalog[name], float)[rows] for name in names)
    with np.errstate(invalid="ignore"):
        radius = (xx * yy - xy**2) ** 0.25
    return float(FWHM_PER_SIGMA * np.nanmedian(radius)) if np.isfinite(radius).any() else np.nan


def of_bands(bands: Sequence[Exposure], seen: Look, minimum_snr: float) -> Stars:
    """The stars in bands of an image without a ``src``."""
    found = []
    for band in bands:
        if min(band.shape) >= 4 * seen.fwhm_pixels:
            found.append(candidates.from_image(_finite(band), seen.fwhm_pixels, minimum_snr))
    x, y, snr = (
        np.concatenate([getattr(each, name) for each in found]) if found else np.zeros(0)
        for name in ("x", "y", "snr")
    )
    order = np.argsort(-snr, kind="stable")
    part = sum(band.image.size for band in bands) / (seen.summary.shape[0] * seen.summary.shape[1])
    return Stars(x[order], y[order], snr[order], part, np.nan, False)


def _finite(band: Exposure) -> Exposure:
    """A band with its sky at 0, and no value that cannot be used."""
    with np.errstate(invalid="ignore"):
        good = np.isfinite(band.image) & np.isfinite(band.variance) & (band.variance > 0)
    if not good.any():
        return band.replace(image=np.zeros_like(band.image), variance=np.ones_like(band.variance))
    level, typical = np.median(band.image[good]), np.median(band.variance[good])
    image = np.where(good, band.image - level, 0).astype(np.float32)
    return band.replace(image=image, variance=np.where(good, band.variance, typical).astype(np.float32))


@dataclass(frozen=True)
class Common:
    """How the stars of two visits lie to each other, by the WCS of both.

    Attributes
    ----------
    number : `int`
        Stars that both have; 0 where no shift brings them onto each other.
    of : `int`
        Of so many of the brightest in the common part of both images.
    offset : `tuple` of `float`
        Median of template minus science in x and y, science pixels; NaN where the visits have none in common.
    ratio : `float`
        Median flux in the science image over that in the template; NaN if the fluxes are not of ``src``.
    science : `int`
        Stars of the science visit that lie in the template, of those compared.
    """

    number: int
    of: int
    offset: tuple[float, float]
    ratio: float
    science: int

    @property
    def distance(self) -> float:
        """Length of the offset in science pixels."""
        return float(np.hypot(*self.offset))

    @property
    def told(self) -> bool:
        """Whether there were stars enough to tell if they lie on each other."""
        return self.number > 0 or self.of >= _FEWEST_TOLD


def common(
    science: Look, of_science: Stars, template: Look, of_template: Stars, reach: float
) -> Common | None:
    """Find the shift under which most stars of both visits lie on each other.

    It is found if that brings more of them together than a hundred thousand fields of unrelated stars would.

    Parameters
    ----------
    science, template : `Look`
    of_science, of_template : `Stars`
    reach : `float`
        Largest shift that is looked for, in x and in y, science pixels.

    Returns
    -------
    found : `Common`, optional
        `None` where the stars of either visit are those of a part of its pixels.
    """
    if min(of_science.seen, of_template.seen) < 1:
        return None
    x, y = _carried(template, of_template, science)
    theirs = _inside(science, x, y, reach)[:_MOST_STARS]
    u, v = _carried(science, of_science, template)
    ours = _inside(template, u, v, reach)[:_MOST_STARS]
    in_both = len(_inside(template, u[ours], v[ours], 0.0))
    of = min(len(_inside(science, x[theirs], y[theirs], 0.0)), in_both)
    dx, dy = x[theirs][None] - of_science.x[ours][:, None], y[theirs][None] - of_science.y[ours][:, None]
    near = (np.abs(dx) < reach) & (np.abs(dy) < reach)
    width = max(science.fwhm_pixels, 2.0)
    peak = _densest(dx[near], dy[near], reach, width)
    by_chance = np.pi * width**2 * near.sum() / (2 * reach) ** 2
    close = np.hypot(dx - peak[0], dy - peak[1]) < width
    if close.sum() < max(_FEWEST_STARS, by_chance + 6 * np.sqrt(by_chance) + 3):
        return Common(0, of, (np.nan, np.nan), np.nan, in_both)
    rows, columns = np.nonzero(close)
    ratio = np.nan
    if of_science.of_src and of_template.of_src:
        ratio = float(np.median(of_science.flux[ours][rows] / of_template.flux[theirs][columns]))
    shift = float(np.median(dx[close])), float(np.median(dy[close]))
    return Common(int(close.sum()), max(of, int(close.sum())), shift, ratio, in_both)


def _carried(of: Look, stars_: Stars, to: Look) -> tuple[Array, Array]:
    """Where the stars of one visit lie in the pixels of another."""
    sky = of.summary.wcs.pixel_to_sky(stars_.x, stars_.y)
    x, y = (np.asarray(each, float) for each in to.summary.wcs.sky_to_pixel(*sky))
    return x, y


def _inside(of: Look, x: Array, y: Array, margin: float) -> NDArray[np.intp]:
    """Which positions lie in an image, or by no more than a margin outside."""
    (ny, nx), (x0, y0) = of.summary.shape, of.summary.xy0
    with np.errstate(invalid="ignore"):
        there = (x > x0 - margin) & (x < x0 + nx + margin) & (y > y0 - margin) & (y < y0 + ny + margin)
    return np.nonzero(there)[0]


def _densest(dx: Array, dy: Array, reach: float, width: float) -> tuple[float, float]:
    """Where most of the points lie, by counts in cells of this width and in those half a cell away."""
    cells = max(int(np.ceil(2 * reach / width)), 1)
    best, most = (0.0, 0.0), -1.0
    for shift in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
        edges = [(np.arange(cells + 2) - 1 + part) * width - reach for part in shift]
        counts = np.histogram2d(dx, dy, bins=edges)[0]
        i, j = np.unravel_index(np.argmax(counts), counts.shape)
        if counts[i, j] > most:
            most = float(counts[i, j])
            best = float(edges[0][i] + width / 2), float(edges[1][j] + width / 2)
    return best
