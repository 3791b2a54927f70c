# SPDX-License-Identifier: BSD-3-Clause
"""What a calexp shows at a glance: its PSF, and from bands of its pixels its noise and depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.blocks import marked
from diffrun.engine.overlap import lacks_wcs, middle
from diffrun.engine.quality import NOT_SKY, has
from diffrun.engine.smoothpsf import fwhm
from diffrun.errors import DataError
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import ExposureSummary, Part, cut, read_bands, read_summary
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

#: Pixels that are read of an image, rows of a band of them, columns of a cell in which the sky is one level.
_LOOKED_AT, _BAND, _CELL = 1_500_000, 64, 256
#: Fewest blank pixels that tell the noise.
_FEWEST_PIXELS = 1000
#: S/N of a point source at the limit that is told as the depth.
_DEPTH_SNR = 5.0
#: Rows of the variance plane that tell it where nothing else is looked at.
_FEW_ROWS = 16
#: Planes of pixels that hold nothing.
_EMPTY = ("BAD", "NO_DATA")


@dataclass(frozen=True)
class Look:
    """What the headers and the PSF of one visit say.

    Attributes
    ----------
    data_id : `DataId`
    path : `pathlib.Path`
        Of its calexp.
    summary : `ExposureSummary`
        Of what is looked at.
    fwhm_pixels : `float`
        FWHM of the PSF model at the middle of the image.
    pixel_scale : `float`
        Arcsec per pixel there.
    part : `Part`
        Rows and columns that are looked at.
    """

    data_id: DataId
    path: Path
    summary: ExposureSummary
    fwhm_pixels: float
    pixel_scale: float
    part: Part = None

    @property
    def fwhm_arcsec(self) -> float:
        """FWHM of the PSF at the middle of the image, arcsec."""
        return self.fwhm_pixels * self.pixel_scale

    @property
    def has_wcs(self) -> bool:
        """Whether its coordinates are more than made up."""
        return not lacks_wcs(self.summary)

    def as_dict(self) -> dict[str, Any]:
        """The part of the printed object that describes this visit."""
        return {
            **self.data_id.as_dict(),
            "fwhm_arcsec": round(self.fwhm_arcsec, 4) if self.has_wcs else None,
            "fwhm_pixels": round(self.fwhm_pixels, 4),
            "pixel_scale": round(self.pixel_scale, 5) if self.has_wcs else None,
            "mjd": self.summary.mjd if np.isfinite(self.summary.mjd) else None,
        }


def look(
    repository: Repository, data_id: DataId, wanted: Callable[[ExposureSummary], Part] = lambda _summary: None
) -> Look:
    """Read the headers and the PSF of a visit; ``wanted`` may say that only a part of it is looked at.

    Raises
    ------
    RepositoryError
        If it has no calexp.
    DataError
        If that cannot be read, or has no PSF or WCS.
    """
    path = repository.require("calexp", data_id)
    whole = read_summary(path)
    taken = wanted(whole)
    summary = cut(whole, taken)
    if summary.psf is None or summary.wcs is None:
        part = "PSF" if summary.psf is None else "WCS"
        raise DataError(f"{path} has no {part}", "process the visit again, or choose another")
    x, y = middle(summary)
    ra, dec = summary.wcs.pixel_to_sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    east, north = (ra[1:] - ra[0]) * np.cos(np.radians(dec[0])), dec[1:] - dec[0]
    scale = 3600 * np.sqrt(abs(east[0] * north[1] - east[1] * north[0]))
    return Look(data_id, path, summary, fwhm(summary.psf, x, y), float(scale), taken)


def bands_of(seen: Look) -> list[Exposure]:
    """Bands of a visit's pixels, enough to tell its noise."""
    return [marked(band)[0] for band in read_bands(seen.path, _LOOKED_AT, _BAND, seen.part)]


def depth(noise: float, seen: Look) -> float:
    """Counts of a point source of S/N 5 on blank sky of this noise."""
    return float(_DEPTH_SNR * noise * np.sqrt(_area(seen)))


def told_depth(seen: Look) -> float:
    """AB magnitude of a point source of S/N 5 on blank sky, by a few rows of the variance plane.

    NaN without a zero point, or where those rows hold no blank sky.
    """
    (band, *_) = read_bands(seen.path, 1, _FEW_ROWS)
    blank = _full(band, NOT_SKY)
    if np.count_nonzero(blank) < _FEWEST_PIXELS:
        return np.nan
    noise = float(np.sqrt(np.median(band.variance[blank])))
    return magnitude(depth(noise, seen), seen.summary.flux_mag0)


def _area(seen: Look) -> float:
    """Pixels of blank sky whose noise is that of a PSF flux."""
    stamp = np.asarray(seen.summary.psf.kernel_image(*middle(seen.summary)))  # type: ignore[union-attr]
    return float(stamp.sum() ** 2 / (stamp**2).sum())


def magnitude(counts: float, flux_mag0: float) -> float:
    """AB magnitude of counts; NaN without a zero point."""
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
        blank = _full(band, NOT_SKY)
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


def usable(bands: Sequence[Exposure]) -> float:
    """The part of the pixels that hold something: finite, with a variance, not marked as empty."""
    good, whole = 0, 0
    for band in bands:
        good += int(np.count_nonzero(_full(band, _EMPTY)))
        whole += band.image.size
    return good / max(whole, 1)


def _full(band: Exposure, planes: Sequence[str]) -> NDArray[np.bool_]:
    """Pixels that hold something, and are in none of some planes."""
    with np.errstate(invalid="ignore"):
        full = np.isfinite(band.image) & np.isfinite(band.variance) & (band.variance > 0)
    return np.asarray(full & ~has(band.mask, band.bits(*planes)))


def _lower_sigma(values: NDArray[Any]) -> float:
    """Standard deviation of a normal distribution that has this lower half."""
    low, middle_ = np.percentile(values, [15.866, 50.0])
    return float(middle_ - low)
