# SPDX-License-Identifier: BSD-3-Clause
"""The truth beside the images: ``truth.ecsv`` of what changed, ``static.ecsv`` of what did not."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from conditions import FULL_WELL, READ_NOISE, STAMP, Configuration, Night
from expose import Scenery, on_sensor, sky_of, transparency
from numpy.typing import NDArray
from objects import KINDS, SATURATES, Sky
from truepsf import TruePsf

Array = NDArray[np.float64]

COLUMNS = {
    "kind": ("", "blank, galaxy, bright (near a bright star), variable (a star)"),
    "x": ("pix", "0-based, of the science visit"),
    "y": ("pix", "0-based, of the science visit"),
    "ra": ("deg", "by the WCS of the science file"),
    "dec": ("deg", "by the WCS of the science file"),
    "flux": ("ct", "science minus template, counts of the science visit, on the stamp of the science PSF"),
    "flux_wide": ("ct", "the same on the stamp of the wider PSF of the two, which the difference has"),
    "flux_total": ("ct", "the same, wings off the stamp included"),
    "base": ("ct", "total flux common to both visits, of variable stars"),
    "snr": ("", "|flux| of the ideal subtraction over its error, own photon noise included"),
    "snr_blank": ("", "the same over the noise of blank sky"),
}


def ideal_power(science: Array, template: Array, science_noise: float, template_noise: float) -> float:
    """sum P^2 / V of the ideal difference (Zackay, Ofek and Gal-Yam 2016, eq. 12), per squared count.

    Stamps of the two PSFs at a place, and the variance of a pixel there, both on the science scale.
    """
    s, t = np.abs(np.fft.fft2(science)) ** 2, np.abs(np.fft.fft2(template)) ** 2
    noise = science_noise * t + template_noise * s
    return float(np.mean(s * t / np.maximum(noise, 1e-12 * noise.max())))


def change_table(sky: Sky, configuration: Configuration, science: Scenery, template: Scenery) -> Table:
    """One row a change."""
    change, ratio = sky.change, configuration.science.transparency / configuration.template.transparency
    x, y = change["x"], change["y"]
    scale = transparency(x, y, configuration.science, configuration.shape)
    ra, dec = science.wcs.pixel_to_sky(x, y)
    there = on_sensor(x, y, configuration, configuration.template)
    total = change["flux"] * scale
    side = 65
    rows = []
    for i in range(len(x)):
        s = science.psf.stamp(x[i], y[i], side, x[i] - round(x[i]), y[i] - round(y[i]))
        t = template.psf.stamp(there[0][i], there[1][i], side)
        noise = _local(science, x[i], y[i], s), _local(template, there[0][i], there[1][i], t) * ratio**2
        blank = _blank(configuration.science), _blank(configuration.template) * ratio**2
        fraction = tuple(_on_stamp(p) for p in (s, t))
        wide = max((science.psf.fwhm, fraction[0]), (template.psf.fwhm, fraction[1]))[1]
        snr, snr_blank = (abs(total[i]) * np.sqrt(ideal_power(s, t, *n)) for n in (noise, blank))
        flux, flux_wide = total[i] * fraction[0], total[i] * wide
        rows.append((
            KINDS[change["kind"][i]], round(x[i], 4), round(y[i], 4), round(float(ra[i]), 9),
            round(float(dec[i]), 9), round(flux, 3), round(flux_wide, 3), round(total[i], 3),
            round(change["base"][i] * scale[i], 2), round(snr, 3), round(snr_blank, 3),
        ))  # fmt: skip
    table = Table(rows=rows, names=list(COLUMNS))
    for name, (unit, description) in COLUMNS.items():
        table[name].unit = unit or None
        table[name].description = description
    return table


def _on_stamp(stamp: Array) -> float:
    edge = (len(stamp) - STAMP) // 2
    return float(stamp[edge:-edge, edge:-edge].sum())


def _blank(night: Night) -> float:
    return night.sky + READ_NOISE**2


def _local(scenery: Scenery, x: float, y: float, psf: Array) -> float:
    """The variance of a pixel at a place, weighted as a PSF flux weighs it."""
    half = len(psf) // 2
    ny, nx = scenery.light.shape
    row, column = np.clip(round(y), half, ny - 1 - half), np.clip(round(x), half, nx - 1 - half)
    light = scenery.light[row - half : row + half + 1, column - half : column + half + 1]
    return _blank(scenery.night) + float((light * psf**2).sum() / (psf**2).sum())


def static_table(sky: Sky, configuration: Configuration, psf: TruePsf, template: TruePsf) -> Table:
    """Stars and galaxies on the sensor: x, y in science pixels, total flux in both visits.

    A star is ``saturated`` where its peak fills the well in either visit.
    """
    star = sky.star[sky.star["flux"] > 0]
    x = np.concatenate([star["x"], sky.galaxy["x"]])
    y = np.concatenate([star["y"], sky.galaxy["y"]])
    flux = np.concatenate([star["flux"], sky.galaxy["flux"]])
    kind = np.repeat(["star", "galaxy"], [len(star), len(sky.galaxy)]).astype("U9")
    there = on_sensor(x, y, configuration, configuration.template)
    science_flux = flux * transparency(x, y, configuration.science, configuration.shape)
    template_flux = flux * configuration.template.transparency
    peak = psf.profile[0] * np.maximum(
        science_flux * psf.forms(x, y)[:, 3], template_flux * template.forms(*there)[:, 3]
    )
    full = FULL_WELL - max(
        float(sky_of(n, (2, 2)).max()) for n in (configuration.science, configuration.template)
    )
    kind[(kind == "star") & ((peak > 0.95 * full) | (flux > SATURATES * 1.5))] = "saturated"
    ny, nx = configuration.shape
    inside = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    size = np.concatenate([np.zeros(len(star)), sky.galaxy["size"]])
    columns = [kind, x.round(3), y.round(3), science_flux.round(1), template_flux.round(1), size.round(2)]
    names = ("kind", "x", "y", "flux", "flux_template", "size")
    return Table([c[inside] for c in columns], names=names)
