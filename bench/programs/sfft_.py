# SPDX-License-Identifier: BSD-3-Clause
"""SFFT's packet for sparse fields on the processor as its manual shows it, in a process of its own.

It runs Source Extractor itself, by the name `sex`.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits
from sfft.EasySparsePacket import Easy_SparsePacket

WARPED, SCIENCE, DIFFERENCE = (str(Path.cwd() / f"sfft-{name}.fits") for name in ("warped", "science", "out"))
header = fits.getheader("science.fits")
bad = np.zeros(fits.getdata("science.fits").shape, bool)
for name in ("science", "warped"):
    bad |= ~(fits.getdata(f"{name}.var.fits") < 1e20)
for name, path in (("science", SCIENCE), ("warped", WARPED)):
    image = np.where(bad, np.nan, fits.getdata(f"{name}.fits")).astype("f4")
    fits.writeto(path, image, header, overwrite=True)
Easy_SparsePacket.ESP(
    WARPED, SCIENCE, FITS_DIFF=DIFFERENCE, ForceConv="REF", KerPolyOrder=2, BGPolyOrder=0,
    BACKEND_4SUBTRACT="Numpy", NUM_CPU_THREADS_4SUBTRACT=2, VERBOSE_LEVEL=1,
)  # fmt: skip
difference = fits.getdata(DIFFERENCE)
np.savez("difference.npz", image=np.where(bad, np.nan, difference).astype("f4"))
