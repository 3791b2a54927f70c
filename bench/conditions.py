# SPDX-License-Identifier: BSD-3-Clause
"""The skies and nights that the bench simulates: what each configuration changes, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

SCALE = 0.2  # arcsec per pixel
SENSOR = (4072, 4000)  # rows, columns
READ_NOISE = 8.0  # electrons
FULL_WELL = 100_000  # electrons
EXPOSURE_TIME = 30.0  # seconds
STAMP = 41  # side of the PSF images in the files
SCIENCE, TEMPLATE = 100, 200  # visit numbers
BAND = "r"


@dataclass(frozen=True)
class Night:
    """One visit and its conditions.

    Attributes
    ----------
    number : `int`
        The visit.
    fwhm : `float`
        Of the PSF at the middle of the sensor, pixel response included, arcsec.
    sky : `float`
        Electrons a pixel.
    transparency : `float`
        Counts for one unit of flux.
    rotation : `float`
        Degrees, about the middle of the sensor.
    shift : `tuple` of `float`
        Pixels.
    beta : `float`
        0 for a Kolmogorov profile, else the exponent of Moffat's.
    clouds : `float`
        Peak to peak variation of the transparency over the sensor.
    astrometry : `float`
        Amplitude of what the WCS of the file does not know, pixels.
    """

    number: int
    mjd: float
    fwhm: float
    sky: float
    transparency: float = 1.0
    rotation: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    beta: float = 0.0
    clouds: float = 0.0
    astrometry: float = 0.0


@dataclass(frozen=True)
class Configuration:
    """Two nights and one sky; numbers of objects are for a whole sensor."""

    science: Night = Night(SCIENCE, 59842.20, 1.10, 1200.0)
    template: Night = Night(TEMPLATE, 59580.14, 0.75, 900.0, 1.05, 0.5, (17.3, -9.6))
    shape: tuple[int, int] = SENSOR
    stars: int = 4000
    galaxies: int = 3000
    transients: int = 400
    variable_share: float = 0.1
    variable_swing: float = 0.0  # relative change of bright variable stars, 0: by S/N as all others

    def of_size(self, size: int) -> Configuration:
        """The same density of stars and galaxies on a square of this side; transients at least 60."""
        share = size * size / (SENSOR[0] * SENSOR[1])
        return replace(
            self,
            shape=(size, size),
            stars=round(self.stars * share),
            galaxies=round(self.galaxies * share),
            transients=max(60, round(self.transients * share)),
        )


_DEFAULT = Configuration()


def _nights(science: dict[str, float], template: dict[str, float]) -> Configuration:
    return replace(
        _DEFAULT,
        science=replace(_DEFAULT.science, **science),
        template=replace(_DEFAULT.template, **template),
    )


CONFIGURATIONS: dict[str, Configuration] = {
    "default": _DEFAULT,
    "reversed": _nights({"fwhm": 0.75}, {"fwhm": 1.10}),
    "equal": _nights({"fwhm": 0.90}, {"fwhm": 0.88}),
    "crowded-transients": replace(_DEFAULT, transients=1200, variable_share=0.25, variable_swing=0.5),
    "moffat": _nights({"beta": 2.6}, {"beta": 2.9}),
    "stars3": replace(_DEFAULT, stars=12000),
    "stars01": replace(_DEFAULT, stars=400),
    "clouds": _nights({"clouds": 0.05}, {}),
    "astrometry": _nights({}, {"astrometry": 0.1}),
    "small": _DEFAULT.of_size(1024),
}
