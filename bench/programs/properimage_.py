# SPDX-License-Identifier: BSD-3-Clause
"""The subtraction of properimage as its manual shows it, in a process of its own."""

import numpy as np
from astropy.io import fits
from properimage.operations import subtract
from properimage.single_image import SingleImage

SKY = 1000.0  # it masks what is below -50, so that a frame without its sky would lose half its pixels

images, bad = [], False
for name in ("warped", "science"):
    bad = bad | ~(fits.getdata(f"{name}.var.fits") < 1e20)
    images.append(fits.getdata(f"{name}.fits").astype(float) + SKY)
reference, new = (SingleImage(image, mask=bad, gain=1.0) for image in images)
difference, psf, _, mask = subtract(
    reference, new, align=False, fitted_psf=False, smooth_psf=False, iterative=False, beta=False, shift=False
)
ratio = new.zp / reference.zp
counts = np.sqrt(reference.var**2 * ratio**2 + new.var**2)  # of the new image for one unit of the difference
difference = np.where(bad | np.asarray(mask, bool), np.nan, np.real(difference) * counts)
psf = np.real(psf)
row, column = np.unravel_index(np.argmax(psf), psf.shape)
stamp = np.roll(psf, (20 - row, 20 - column), (0, 1))[:41, :41]
np.savez("difference.npz", image=difference.astype("f4"), psf=stamp)
