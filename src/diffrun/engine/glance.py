# SPDX-License-Identifier: BSD-3-Clause
"""What a calexp shows at a glance: its PSF, and from bands of its pixels its noise, depth and stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import candidates as stars
from diffrun.engine.overlap import middle
from diffrun.engine.quality import NOT_SKY
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA, fwhm
from diffrun.errors import DataError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import ExposureSummary, read_bands, read_summary
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

#: Pixels that are read of an image, rows of a band of them, columns of a cell in which the sky is one level.
_LOOKED_AT, _BAND, _CELL = 1_500_000, 64, 256
#: Fewest blank pixels that tell the noise, fewest stars that tell the seeing, most stars that are compared.
_FEWEST_PIXELS, _FEWEST_STARS, _MOST_STARS = 1000, 5, 400
#: Stars in the common part of both images that must lie on each other, if their WCS are right.
_FEWEST_TOLD = 12
#: S/N of a point source at the limit that is told as the depth.
_DEPTH_SNR = 5.0
#: Rows of the variance plane that tell it where nothing else is looked at.
_FEW_ROWS = 16

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What the headers and the PSF of one visit say.

    Attributes
    ----------
    data_id : `DataId`
    path : `pathlib.Path`
        Of its calexp.
    summary : `ExposureSummary`
    fwhm_pixels : `float`
        FWHM of the PSF model at the middle of the image.
    pixel_scale : `float`
        Arcsec per pixel there.
    """

    data_id: DataId
    path: Path
    summary: ExposureSummary
    fwhm_pixels: float
    pixel_scale: float

    @property
    def fwhm_arcsec(self) -> float:
        """FWHM of the PSF at the middle of the image, arcsec."""
        return self.fwhm_pixels * self.pixel_scale

    def as_dict(self) -> dict[str, Any]:
        """The part of the printed object that describes this visit."""
        return {
            **self.data_id.as_dict(),
            "fwhm_arcsec": round(self.fwhm_arcsec, 4),
            "fwhm_pixels": round(self.fwhm_pixels, 4),
            "pixel_scale": round(self.pixel_scale, 5),
            "mjd": self.summary.mjd if np.isfinite(self.summary.mjd) else None,
        }


def look(repository: Repository, data_id: DataId) -> Look:
    """Read the headers and the PSF of a visit.

    Raises
    ------
    RepositoryError
        If it has no calexp.
    DataError
        If that cannot be read, or has no PSF or WCS.
    """
    path = repository.require("calexp", data_id)
    summary = read_summary(path)
    if summary.psf is None or summary.wcs is None:
        part = "PSF" if summary.psf is None else "WCS"
        raise DataError(f"{path} has no {part}", "process the visit again, or choose another")
    x, y = middle(summary)
    ra, dec = summary.wcs.pixel_to_sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    east, north = (ra[1:] - ra[0]) * np.cos(np.radians(dec[0])), dec[1:] - dec[0]
    scale = 3600 * np.sqrt(abs(east[0] * north[1] - east[1] * north[0]))
    return Look(data_id, path, summary, fwhm(summary.psf, x, y), float(scale))


@dataclass(frozen=True)
class Pixels:
    """What the pixels of one visit say.

    Attributes
    ----------
    noise : `float`
        Standard deviation of blank sky, counts; NaN where too little of it is seen.
    noise_factor : `float`
        The same over the square root of the variance plane; NaN where that cannot be told.
    depth : `float`
        Counts of a point source of S/N 5 on blank sky.
    stars : `Stars`
    """

    noise: float
    noise_factor: float
    depth: float
    stars: Stars

    def depth_magnitude(self, flux_mag0: float) -> float:
        """`depth` in AB magnitudes; NaN without a zero point."""
        return _magnitude(self.depth, flux_mag0)


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


def pixels(seen: Look, sources: Path | None, minimum_snr: float) -> Pixels:
    """Look at bands of a visit's pixels, and at its ``src``, if it has one.

    Parameters
    ----------
    seen : `Look`
    sources : `pathlib.Path`, optional
        Its ``src``.
    minimum_snr : `float`
        Of a star that can tell the matching kernel.
    """
    bands = read_bands(seen.path, _LOOKED_AT, _BAND)
    noise, factor = sky_noise(bands)
    if sources is None:
        found = _of_bands(bands, seen, minimum_snr)
    else:
        found = _of_sources(read_catalog(sources), minimum_snr)
    return Pixels(noise, factor, float(_DEPTH_SNR * noise * np.sqrt(_area(seen))), found)


def told_depth(seen: Look) -> float:
    """AB magnitude of a point source of S/N 5 on blank sky, by a few rows of the variance plane.

    NaN without a zero point, or where those rows hold no blank sky.
    """
    (band, *_) = read_bands(seen.path, 1, _FEW_ROWS)
    dark = np.int32(band.bits(*(name for name in NOT_SKY if name in band.planes)))
    blank = ((band.mask & dark) == 0) & (band.variance > 0) & np.isfinite(band.variance)
    if np.count_nonzero(blank) < _FEWEST_PIXELS:
        return np.nan
    noise = float(np.sqrt(np.median(band.variance[blank])))
    return _magnitude(_DEPTH_SNR * noise * np.sqrt(_area(seen)), seen.summary.flux_mag0)


def _area(seen: Look) -> float:
    """Pixels of blank sky whose noise is that of a PSF flux."""
    stamp = np.asarray(seen.summary.psf.kernel_image(*middle(seen.summary)))  # type: ignore[union-attr]
    return float(stamp.sum() ** 2 / (stamp**2).sum())


def _magnitude(counts: float, flux_mag0: float) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(-2.5 * np.log10(np.float64(counts) / flux_mag0))


def sky_noise(bands: Sequence[Exposure]) -> tuple[float, float]:
    """Standard deviation of blank sky, and its ratio to what the variance plane says.

    Both are taken from the lower half of the distribution, where faint sources do not reach; the level of the
    sky is the median of cells.

    Returns
    -------
    noise, factor : `float`
        NaN where there are fewer than 1000 blank pixels.
    """
    values, pulls, parts = [], [], []
    for band in bands:
        dark = np.int32(band.bits(*(name for name in NOT_SKY if name in band.planes)))
        with np.errstate(invalid="ignore"):
            blank = ((band.mask & dark) == 0) & np.isfinite(band.image) & (band.variance > 0)
            blank &= np.isfinite(band.variance)
        for top in range(0, band.shape[0], _BAND):
            for left in range(0, band.shape[1], _CELL):
                cell = np.s_[top : top + _BAND, left : left + _CELL]
                value = band.image[cell][blank[cell]]
                if len(value):
                    sigma = np.sqrt(band.variance[cell][blank[cell]])
                    value = value - np.median(value)
                    values.append(value)
                    pulls.append(value / sigma)
                    parts.append(len(value))
    if sum(parts) < _FEWEST_PIXELS:
        return np.nan, np.nan
    return _lower_sigma(np.concatenate(values)), _lower_sigma(np.concatenate(pulls))


def _lower_sigma(values: NDArray[Any]) -> float:
    """Standard deviation of a normal distribution that has this lower half."""
    low, middle_ = np.percentile(values, [15.866, 50.0])
    return float(middle_ - low)


def _of_sources(catalog: Catalog, minimum_snr: float) -> Stars:
    """The stars of a ``src`` table, with the flux and the size that it gives them."""
    found = stars.from_sources(catalog, minimum_snr)
    x, y = np.asarray(catalog["slot_Centroid_x"], float), np.asarray(catalog["slot_Centroid_y"], float)
    place = {xy: row for row, xy in enumerate(zip(x.tolist(), y.tolist(), strict=True))}
    rows = np.array([place[xy] for xy in zip(found.x.tolist(), found.y.tolist(), strict=True)], int)
    flux = np.asarray(catalog.flux("slot_PsfFlux")[0], float)[rows]
    order = np.argsort(-flux, kind="stable")
    return Stars(found.x[order], found.y[order], flux[order], 1.0, _fwhm(catalog, rows), True)


def _fwhm(catalog: Catalog, rows: NDArray[Any]) -> float:
    """Median FWHM of some rows, by their adaptive moments."""
    names = [f"slot_Shape_{part}" for part in ("xx", "yy", "xy")]
    if not all(name in catalog for name in names) or len(rows) < _FEWEST_STARS:
        return np.nan
    xx, yy, xy = (np.asarray(catalog[name], float)[rows] for name in names)
    with np.errstate(invalid="ignore"):
        radius = (xx * yy - xy**2) ** 0.25
    return float(FWHM_PER_SIGMA * np.nanmedian(radius)) if np.isfinite(radius).any() else np.nan


def _of_bands(bands: Sequence[Exposure], seen: Look, minimum_snr: float) -> Stars:
    """The stars in bands of an image without a ``src``."""
    found = []
    for band in bands:
        if min(band.shape) >= 4 * seen.fwhm_pixels:
            found.append(stars.from_image(_finite(band), seen.fwhm_pixels, minimum_snr))
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
    """

    number: int
    of: int
    offset: tuple[float, float]
    ratio: float

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
    ours = _inside(template, *_carried(science, of_science, template), reach)[:_MOST_STARS]
    of = min(len(_inside(science, x[theirs], y[theirs], 0.0)), len(ours))
    dx, dy = x[theirs][None] - of_science.x[ours][:, None], y[theirs][None] - of_science.y[ours][:, None]
    near = (np.abs(dx) < reach) & (np.abs(dy) < reach)
    width = max(science.fwhm_pixels, 2.0)
    peak = _densest(dx[near], dy[near], reach, width)
    by_chance = np.pi * width**2 * near.sum() / (2 * reach) ** 2
    close = np.hypot(dx - peak[0], dy - peak[1]) < width
    if close.sum() < max(_FEWEST_STARS, by_chance + 6 * np.sqrt(by_chance) + 3):
        return Common(0, of, (np.nan, np.nan), np.nan)
    rows, columns = np.nonzero(close)
    ratio = np.nan
    if of_science.of_src and of_template.of_src:
        ratio = float(np.median(of_science.flux[ours][rows] / of_template.flux[theirs][columns]))
    shift = float(np.median(dx[close])), float(np.median(dy[close]))
    return Common(int(close.sum()), max(of, int(close.sum())), shift, ratio)


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
