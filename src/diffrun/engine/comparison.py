# SPDX-License-Identifier: BSD-3-Clause
"""Two visits side by side: what is known of a pair before the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffrun.engine.glance import Look, bands_of, depth, look, magnitude, sky_noise, usable
from diffrun.engine.overlap import beneath, footprint
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA, SAME_SEEING
from diffrun.engine.starfield import Common, Stars, of_bands, of_sources
from diffrun.errors import DataError, NoOverlapError
from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.reader import ExposureSummary, Part
from diffrun.repository.dataid import DataId
from diffrun.repository.gen2 import Repository

#: Half of the largest matching kernel, pixels.
_KERNEL = 17


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
    usable : `float`
        The part of the pixels that hold something.
    """

    noise: float
    noise_factor: float
    depth: float
    stars: Stars
    usable: float

    def depth_magnitude(self, flux_mag0: float) -> float:
        """`depth` in AB magnitudes; NaN without a zero point."""
        return magnitude(self.depth, flux_mag0)


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
    bands = bands_of(seen)
    noise, factor = sky_noise(bands)
    if sources is None:
        found = of_bands(bands, seen, minimum_snr)
    else:
        found = of_sources(read_catalog(sources), minimum_snr)
    return Pixels(noise, factor, depth(noise, seen), found, usable(bands))


@dataclass(frozen=True)
class Side:
    """One of the two visits.

    Attributes
    ----------
    name : `str`
    look : `Look`
    pixels : `Pixels`, optional
        `None` where they cannot be read.
    trouble : `str`
        Why they, or the ``src``, cannot be.
    """

    name: str
    look: Look
    pixels: Pixels | None
    trouble: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The part of the printed object that describes this visit."""
        found = self.look.as_dict()
        if self.look.has_wcs:
            found |= footprint(self.look.summary)
        if self.pixels is None:
            return found
        stars = self.pixels.stars
        seen = {
            "noise": self.pixels.noise,
            "noise_factor": self.pixels.noise_factor,
            "depth_mag": self.pixels.depth_magnitude(self.look.summary.flux_mag0),
            "stars_fwhm_pixels": stars.fwhm,
        }
        rounded = {key: round(value, 4) if np.isfinite(value) else None for key, value in seen.items()}
        return found | rounded | {"stars": len(stars), "stars_of_src": stars.of_src}


def side(
    repository: Repository, name: str, data_id: DataId, threshold: float, above: Look | None = None
) -> Side:
    """Look at one visit; what its pixels or its ``src`` do not tell is no reason to say nothing.

    Of a template far larger than the image ``above`` it only what the engine keeps is looked at.
    """
    seen, trouble = look(repository, data_id, lambda summary: _kept(summary, above)), ""
    for sources in (repository.find("src", data_id), None):
        try:
            return Side(name, seen, pixels(seen, sources, threshold), trouble)
        except (DataError, KeyError) as error:
            trouble = trouble or str(error.args[0])
    return Side(name, seen, None, trouble)


def _kept(template: ExposureSummary, above: Look | None) -> Part:
    try:
        return beneath(template, above.summary, _KERNEL) if above else None
    except NoOverlapError:
        return None


@dataclass(frozen=True)
class Comparison:
    """Both visits, and how they lie to each other.

    Attributes
    ----------
    science, template : `Side`
    overlap : `float` or `None`
        Part of the science image that the template covers; `None` where one of them has no WCS.
    common : `Common`, optional
        `None` where too few stars could be compared.
    reach : `float`
        How far a star was looked for, science pixels.
    wanted : `bool`
        Whether the configuration wants the template convolved.
    literal : `bool`
        Whether it insists.
    """

    science: Side
    template: Side
    overlap: float | None
    common: Common | None
    reach: float
    wanted: bool
    literal: bool

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, the science visit first."""
        return self.science, self.template

    @property
    def seeing(self) -> tuple[float, float]:
        """FWHM of both in pixels of the science image; each in its own where their sizes are not known."""
        template = self.template.look
        if self.overlap is None:
            return self.science.look.fwhm_pixels, template.fwhm_pixels
        return self.science.look.fwhm_pixels, template.fwhm_arcsec / self.science.look.pixel_scale

    @property
    def convolves_template(self) -> bool:
        """Whether the engine will convolve the template: never to sharpen it, unless that is insisted on."""
        science, template = self.seeing
        if self.literal:
            return self.wanted
        if self.wanted:
            return template <= science * (1 + SAME_SEEING)
        return template * (1 + SAME_SEEING) < science

    @property
    def scale(self) -> float:
        """Counts of the science image for one of the template, by the zero points; NaN without."""
        ours, theirs = (side.look.summary.flux_mag0 for side in self.sides)
        return ours / theirs if ours > 0 and theirs > 0 else np.nan


def difference_depth(pair: Comparison) -> float:
    """AB magnitude of a source of S/N 5 on blank sky in the decorrelated difference.

    The best that linear statistics allow for white noises and Gaussian PSFs (Zackay, Ofek and Gal-Yam 2016,
    ApJ 830, 27, eq. 41), relative to the same for the science image alone.
    """
    if pair.science.pixels is None or pair.template.pixels is None:
        return np.nan
    k = 2 * np.pi * np.fft.fftfreq(64)
    squared = k[:, None] ** 2 + k**2
    ours, theirs = (np.exp(-squared * (width / FWHM_PER_SIGMA) ** 2) for width in pair.seeing)
    area = (pair.template.look.pixel_scale / pair.science.look.pixel_scale) ** 2
    noise = pair.science.pixels.noise**2
    with np.errstate(invalid="ignore", divide="ignore"):
        of_template = (pair.scale * pair.template.pixels.noise) ** 2 * area
        whole = (ours / noise).sum()
        left = np.nansum(ours * theirs / (noise * theirs + of_template * ours))
        zero = pair.science.look.summary.flux_mag0
        return float(pair.science.pixels.depth_magnitude(zero) + 1.25 * np.log10(left / whole))
