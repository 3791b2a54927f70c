# SPDX-License-Identifier: BSD-3-Clause
"""The ZOGY of stdpipe with the true PSFs and noise, in a process of its own."""

import numpy as np
from astropy.io import fits
from stdpipe.subtraction import run_zogy


def psf(name):
    stamp = fits.getdata(f"{name}.psf.fits").astype(float)
    fwhm = 2.3548 * np.sqrt(1 / (4 * np.pi * (stamp**2).sum()))
    return {
        "width": stamp.shape[1], "height": stamp.shape[0], "ncoeffs": 1, "fwhm": fwhm, "sampling": 1.0,
        "degree": 0, "x0": 0, "y0": 0, "sx": 1, "sy": 1, "data": stamp[None],
    }  # fmt: skip


data = {}
for name in ("science", "warped"):
    image, variance = (fits.getdata(f"{name}{end}.fits").astype(float) for end in ("", ".var"))
    bad = ~(variance < 1e20)
    noise = np.sqrt(np.where(bad, np.median(variance[~bad]), variance))
    data[name] = np.where(bad, np.nan, image), bad, noise
(science, science_bad, science_noise), (template, template_bad, template_noise) = data.values()
difference, _, of_difference = run_zogy(
    science, template, science_bad, template_bad, science_noise, template_noise, psf("science"),
    psf("template"), scale=1.0, fit_scale=False, fit_shift=False, get_psf=True, nthreads=2,
)[:3]  # fmt: skip
difference = np.where(science_bad | template_bad, np.nan, difference)
np.savez("difference.npz", image=difference.astype("f4"), psf=of_difference)
