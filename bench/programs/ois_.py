# SPDX-License-Identifier: BSD-3-Clause
"""The subtraction of ois by a free kernel (Bramich 2008) as its manual shows it, in a process of its own."""

import numpy as np
import ois
from astropy.io import fits

images, bad = [], False
for name in ("science", "warped"):
    bad = bad | ~(fits.getdata(f"{name}.var.fits") < 1e20)
    images.append(fits.getdata(f"{name}.fits").astype(float))
science, template = (np.ma.array(image, mask=bad) for image in images)
difference = ois.optimal_system(science, template, kernelshape=(11, 11), bkgdegree=0, method="Bramich")[0]
np.savez("difference.npz", image=np.where(bad, np.nan, np.ma.filled(difference, np.nan)).astype("f4"))
