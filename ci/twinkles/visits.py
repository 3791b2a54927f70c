# SPDX-License-Identifier: BSD-3-Clause
"""The five visits: when, in which band, under which sky, and where the sensor looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from diffrun.repository.dataid import DataId

SIZE = 1024  # pixels on a side of the cutout
XY0 = (1400, 1600)  # parent pixel of its lower left corner
SENSOR = (4000, 4072)  # R22 S11
SCALE = 0.2  # arcsec per pixel
FIELD = (53.0091, -27.4389)  # field 1427, degrees
POSITION_ANGLE = 256.72  # degrees; OpSim's rotSkyPos of the first night
EXPOSURE_TIME = 30.0  # seconds
READ_NOISE = 9.0  # electrons
FULL_WELL = 100_000  # electrons
STAMP = 41  # side of the PSF images, and of the square that defines "flux"
ZERO_POINT = {"g": 28.51, "r": 28.36}  # AB magnitude of 1 electron per second
WAVELENGTH = {"g": 476.31, "r": 619.42}  # nm
INSTRUMENT_FWHM = 0.28  # arcsec: aberrations and charge diffusion


@dataclass(frozen=True)
class Visit:
    """One visit and its conditions.

    Attributes
    ----------
    mjd : `float`
        Start of the exposure (OpSim's expMJD), TAI.
    fwhm : `float`
        FWHM of the whole PSF at the centre of the sensor, arcsec.
    sky : `float`
        Sky brightness, AB magnitude per square arcsec.
    transparency : `float`
        What reaches the detector, 1 for the nominal zero point.
    dither : `tuple` of `float`
        Shift of the pointing in pixels of the sensor.
    rotation : `float`
        Added to the position angle, degrees.
    shear, slope : `tuple` of `float`
        Ellipticity (g1, g2) at the centre, and how size and ellipticity grow from centre to edge.
    """

    number: int
    band: str
    mjd: float
    fwhm: float
    sky: float
    transparency: float
    dither: tuple[float, float]
    rotation: float
    shear: tuple[float, float]
    slope: tuple[float, float, float]

    @property
    def flux_mag0(self) -> float:
        """Counts of an AB magnitude 0 source."""
        return float(self.transparency * EXPOSURE_TIME * 10 ** (0.4 * ZERO_POINT[self.band]))

    @property
    def sky_level(self) -> float:
        """Sky at the centre of the sensor, electrons per pixel."""
        return float(self.flux_mag0 * SCALE**2 * 10 ** (-0.4 * self.sky))

    @property
    def wcs(self) -> WCS:
        """The exact TAN projection, in 0-based parent pixels (``CRPIX`` is FITS's, 1-based)."""
        angle = np.deg2rad(POSITION_ANGLE + self.rotation)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = list(FIELD)
        wcs.wcs.crpix = [SENSOR[0] / 2 + 0.5 + self.dither[0], SENSOR[1] / 2 + 0.5 + self.dither[1]]
        cos, sin = SCALE / 3600 * np.cos(angle), SCALE / 3600 * np.sin(angle)
        wcs.wcs.cd = [[-cos, -sin], [-sin, cos]]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        return wcs

    def to_pixel(self, ra: Any, dec: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Parent pixels of sky positions in degrees."""
        x, y = self.wcs.all_world2pix(ra, dec, 0)
        return np.asarray(x, float), np.asarray(y, float)

    def psf(self, x: float, y: float, **accuracy: Any) -> galsim.GSObject:
        """The true PSF at a parent pixel, flux 1, without the pixel: Kolmogorov, optics, instrument."""
        u, v = (x - SENSOR[0] / 2) / (SENSOR[0] / 2), (y - SENSOR[1] / 2) / (SENSOR[1] / 2)
        size, tilt, bend = self.slope
        growth = 1 + size * (0.8 * u - 0.6 * v) + bend * (u * u + v * v)
        atmosphere = np.sqrt(self.fwhm**2 - INSTRUMENT_FWHM**2) * growth
        g1 = self.shear[0] + tilt * (u - 0.5 * v)
        g2 = self.shear[1] + tilt * (0.5 * u + v)
        params = galsim.GSParams(maximum_fft_size=16384, **accuracy)
        parts = [
            galsim.Kolmogorov(fwhm=atmosphere, gsparams=params).shear(g1=g1, g2=g2),
            galsim.Airy(lam=WAVELENGTH[self.band], diam=8.36, obscuration=0.61, gsparams=params),
            galsim.Gaussian(fwhm=INSTRUMENT_FWHM, gsparams=params),
        ]
        return galsim.Convolve(parts, gsparams=params)

    def stamp_fraction(self) -> float:
        """The part of a star's light that falls on the PSF stamp, at the centre of the cutout."""
        psf = self.psf(XY0[0] + SIZE / 2, XY0[1] + SIZE / 2, folding_threshold=2e-4)
        image = psf.drawImage(nx=STAMP, ny=STAMP, scale=SCALE, dtype=float)
        return round(float(image.array.sum()), 6)


#: Conditions after OpSim (kraken_1042, field 1427); bands and the first two times are facts of Run 3.
VISITS = {
    v.number: v
    for v in (
        Visit(230, "r", 59580.139555, 1.10, 21.16, 1.000, (0, 0), 0.0, (0.012, -0.018), (0.06, 0.030, 0.03)),
        Visit(
            250, "g", 59580.149254, 1.13, 21.95, 0.985, (22, -31), 0.8, (-0.010, 0.022), (-0.05, 0.025, 0.02)
        ),
        Visit(
            185595,
            "r",
            59825.262300,
            0.90,
            21.10,
            0.970,
            (28, 27),
            1.9,
            (0.025, 0.008),
            (0.05, -0.030, -0.02),
        ),
        Visit(
            195529,
            "r",
            59842.247500,
            0.68,
            21.14,
            1.020,
            (-34, 18),
            -1.4,
            (-0.015, -0.012),
            (0.07, 0.035, 0.03),
        ),
        Visit(
            195549,
            "g",
            59842.257200,
            0.71,
            21.90,
            1.010,
            (-17, -36),
            -1.0,
            (0.018, 0.010),
            (-0.06, 0.03, 0.03),
        ),
    )
}


def data_id(visit: Visit) -> DataId:
    """The visit on the subset's sensor."""
    return DataId(visit.number, visit.band, "2,2", "1,1")
