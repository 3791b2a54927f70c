# SPDX-License-Identifier: BSD-3-Clause
"""A simulated pair as plain FITS files, which other programs take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from conditions import BAND, FULL_WELL, SCIENCE, TEMPLATE
from numpy.typing import NDArray

from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

#: The variance by which a pixel is told to be unusable.
USELESS = 1e30


@dataclass(frozen=True)
class Plain:
    """The folder with science.fits, template.fits and their .var.fits, warped.head; and what is in them."""

    folder: Path
    science: Exposure
    template: Exposure

    @property
    def fwhm(self) -> tuple[float, float]:
        """Pixels, of science and template in the middle, as of a Gaussian of the PSF's noise area."""
        found = []
        for exposure in (self.science, self.template):
            stamp = middle_psf(exposure)
            found.append(float(2.3548 * np.sqrt(1 / (4 * np.pi * (stamp**2).sum()))))
        return found[0], found[1]

    @property
    def wide(self) -> Exposure:
        """The one with the worse seeing, whose PSF the difference has."""
        return self.science if self.fwhm[0] > self.fwhm[1] else self.template


def middle_psf(exposure: Exposure) -> NDArray[np.float64]:
    """The PSF in the middle of the frame."""
    ny, nx = exposure.shape
    return exposure.psf.kernel_image(nx / 2, ny / 2)


def write(repository: Path, folder: Path) -> Plain:
    """The files of the repository's pair."""
    folder.mkdir(parents=True, exist_ok=True)
    exposures = []
    for name, visit in (("science", SCIENCE), ("template", TEMPLATE)):
        exposure = read_exposure(repository / relative("calexp", DataId(visit, BAND, "2,2", "1,1")))
        header = fits.Header(exposure.wcs.header(exposure.xy0))
        header.update({"GAIN": 1.0, "SATURATE": float(FULL_WELL), "ESATUR": 0.95 * FULL_WELL})
        variance = np.where(exposure.has("SAT", "NO_DATA"), np.float32(USELESS), exposure.variance)
        fits.writeto(folder / f"{name}.fits", exposure.image, header, overwrite=True)
        fits.writeto(folder / f"{name}.var.fits", variance, header, overwrite=True)
        exposures.append(exposure)
    grid = fits.PrimaryHDU(exposures[0].image, fits.Header(exposures[0].wcs.header((0, 0)))).header
    (folder / "warped.head").write_text(grid.tostring(sep="\n", padding=False) + "\n")
    return Plain(folder, *exposures)
