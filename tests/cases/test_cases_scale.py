# SPDX-License-Identifier: BSD-3-Clause
"""Photometric scale: the cases U38 to U40, U46 and U47 of docs/cases.md."""

from __future__ import annotations

import numpy as np
import pytest
from benchpair import (
    TRANSIENTS,
    clean_pair,
    difference,
    exposure,
    finds_the_transients,
    frame,
    header,
    light,
    noise,
    noisy,
    stars,
)
from scipy.ndimage import gaussian_filter

SUM = "imageDifference:subtract.spatialKernelSum"


def flux_at(found, x, y):
    """PSF flux of the source at a place, and its error."""
    row, distance = found.nearest(x, y)
    assert distance < 1
    return [column[row] for column in found.sources.flux("slot_PsfFlux")]


def test_u38_pixels_of_another_size():
    scale = 0.2 / 0.263
    places = stars()
    places[:, :2] = (places[:, :2] - 255.5) * scale + 199.5
    template = noisy(light((400, 400), 3.4 * scale, places, sky=800 / scale**2), 3)
    template = exposure(template, 3.4 * scale, cards=header(400, scale=0.263))
    found = difference(clean_pair()[0], template)
    assert found.facts[SUM] == pytest.approx(1, abs=0.005)
    assert finds_the_transients(found)


@pytest.mark.parametrize("widths", [(4.2, 3.4), (3.2, 4.8)], ids=["usual", "u39_swapped"])
@pytest.mark.parametrize("factor", [1e-3, 2.512, 1e6])
def test_u40_u39_fluxes_are_on_the_scale_of_the_science_image(factor, widths):
    """Whatever the unit of the template, and whichever of the two is convolved."""
    science = exposure(frame(widths[0], extra=TRANSIENTS), widths[0], flux_mag0=1e12)
    image = frame(widths[1], noise=3)
    fluxes = []
    for scale in (np.float32(1), np.float32(factor)):
        scaled = exposure(image * scale, widths[1], variance=image * scale**2, flux_mag0=1e12 * factor)
        found = difference(science, scaled)
        assert finds_the_transients(found)
        assert found.image.flux_mag0 == science.flux_mag0
        assert found.products["matchedExp"].flux_mag0 == science.flux_mag0
        fluxes.append(flux_at(found, 300, 250)[0])
    assert fluxes[1] == pytest.approx(fluxes[0], rel=0.001)
    assert fluxes[1] == pytest.approx(8000, rel=0.05)


def test_u46_skies_that_were_subtracted(clean):
    found = difference(*(one.replace(image=one.image - 800) for one in clean_pair()))
    assert finds_the_transients(found)
    assert (found.image.has("NO_DATA") == clean.image.has("NO_DATA")).all()
    assert noise(found)[0] == pytest.approx(1, abs=0.03)


def test_u47_a_transient_on_a_galaxy():
    y, x = np.mgrid[:512, :512]
    galaxy = 500 * np.exp(-np.hypot(x - 300, y - 250) / 12)
    images = [
        light((512, 512), fwhm, sources) + gaussian_filter(galaxy, fwhm / 2.3548)
        for fwhm, sources in ((4.2, [*stars(), (303, 252, 60000)]), (3.4, stars()))
    ]
    science, template = (noisy(image, seed) for image, seed in zip(images, (2, 3), strict=True))
    found = difference(exposure(science, 4.2), exposure(template, 3.4))
    flux, _ = flux_at(found, 303, 252)
    assert flux == pytest.approx(60000, rel=0.02)
    ring = (np.hypot(x - 303, y - 252) > 10) & (np.hypot(x - 303, y - 252) < 25)
    left = found.image.image[ring] / np.sqrt(found.image.variance[ring])
    assert abs(np.mean(left)) < 0.1
