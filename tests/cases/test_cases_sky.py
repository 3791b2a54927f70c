# SPDX-License-Identifier: BSD-3-Clause
"""WCS, seeing, stars and edges: the cases U10 to U12 and U22 to U35 of docs/cases.md."""

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
    kernel_half,
    light,
    noise,
    noisy,
    plain,
    stars,
    turned,
    with_sky,
)

from diffrun.engine import masks
from diffrun.errors import DataError, NoStarsError
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf, psf_image
from diffrun.files.afw.reader import read_exposure
from diffrun.files.afw.writer import write_exposure

REGISTER = "imageDifference:register"


def pair_of(sources, templates=None):
    """The pair with other stars, both transients in the science image."""
    science = noisy(light((512, 512), 4.2, [*sources, *TRANSIENTS]), 2)
    template = noisy(light((512, 512), 3.4, sources if templates is None else templates), 3)
    return exposure(science, 4.2), exposure(template, 3.4)


def brightest(count):
    return stars()[np.argsort(-stars()[:, 2])][:count]


def stretched(corner):
    """A template whose stars are moved outwards, so many pixels at the corner; its WCS does not say so."""
    places = stars()
    from_middle = places[:, :2] - 255.5
    distance = np.hypot(*from_middle.T)[:, None]
    places[:, :2] += from_middle * corner * distance / (255.5 * np.sqrt(2)) ** 2
    return exposure(noisy(light((512, 512), 3.4, places), 3), 3.4)


def test_u10_a_distortion_that_the_wcs_lacks_is_corrected():
    found = difference(clean_pair()[0], stretched(3.0))
    assert finds_the_transients(found)
    assert found.facts[f"{REGISTER}.residual"] < 0.15
    assert any("pixels beside those of the science image" in line for line in found.said)


def test_u10_a_large_one_is_refused_with_its_size():
    with pytest.raises(DataError, match=r"up to \d\d\.\d pixels .* at most 20 are corrected"):
        difference(clean_pair()[0], stretched(40.0))


@pytest.mark.parametrize(("arcsec", "pixels"), [(0.5, 2.22), (4.0, 17.75)])
def test_u11_a_wrong_reference_point_is_corrected(arcsec, pixels):
    template = exposure(frame(3.4, noise=3), 3.4, cards=header(ra=53.009 + arcsec / 3600))
    found = difference(clean_pair()[0], template)
    assert finds_the_transients(found)
    assert found.facts[f"{REGISTER}.offset"] == pytest.approx(pixels, abs=0.05)
    assert any(f"{pixels:.2f} pixels beside" in line for line in found.said)


def test_u11_a_very_wrong_one_is_refused_with_the_offset():
    """30 arcsec in right ascension are 133.1 pixels at this declination."""
    template = exposure(frame(3.4, noise=3), 3.4, cards=header(ra=53.009 + 30 / 3600))
    with pytest.raises(
        DataError, match=r"up to 133\.1 pixels .*\(-133\.1 in x, [+-]0\.0 in y, from \d+ stars\)"
    ):
        difference(clean_pair()[0], template)


def test_u11_another_sky_is_refused():
    science, template = pair_of(stars(), stars(seed=77))
    with pytest.raises(
        DataError, match=r"show different stars: of \d+ bright ones .* \d are in the template"
    ):
        difference(science, template)


def test_a_right_wcs_is_left_alone(clean):
    assert clean.facts[f"{REGISTER}.offset"] < 0.02
    assert not clean.said


@pytest.mark.parametrize("arcsec", [0.0, 2.0])
def test_u12_nine_stars_and_a_template_of_four_times_the_area(arcsec):
    few = brightest(9)
    around = stars(1024, 480, seed=8)
    around = around[(np.abs(around[:, :2] - 511.5) > 280).any(axis=1)]
    wide = np.concatenate([few + np.array([256, 256, 0]), around])
    template = noisy(light((1024, 1024), 3.4, wide), 3)
    science = exposure(noisy(light((512, 512), 4.2, [*few, *TRANSIENTS]), 2), 4.2)
    cards = header(1024, ra=53.009 + arcsec / 3600)
    found = difference(science, exposure(template, 3.4, cards=cards))
    assert all(found.nearest(x, y)[1] < 1 for x, y, _ in TRANSIENTS)
    assert len(found.others(*TRANSIENTS)) <= 1
    assert found.facts[f"{REGISTER}.stars"] == pytest.approx(9, abs=2)
    assert found.facts[f"{REGISTER}.offset"] == pytest.approx(arcsec * 4.439, abs=0.05)


def test_u22_a_template_of_worse_seeing():
    science, template = exposure(frame(3.2, extra=TRANSIENTS), 3.2), exposure(frame(4.8, noise=3), 4.8)
    found = difference(science, template)
    assert found.said == [
        "Convolving the science image, which is the sharper: the FWHM is 3.20 px in the science image and "
        "4.80 px in the template"
    ]
    assert len(found.others(*TRANSIENTS)) <= 1
    told = difference(science, template, mode="literal").said
    assert any("obeyed although the kernel must sharpen" in line for line in told)


def test_u24_seeing_too_good_for_the_pixels_leaves_no_rings():
    science, template = exposure(frame(2.4, extra=TRANSIENTS), 2.4), exposure(frame(2.0, noise=3), 2.0)
    found = difference(science, template)
    assert finds_the_transients(found)
    assert noise(found)[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("sides", [(21, 41), (24, 41), (41, 24)])
def test_u25_psf_images_of_other_sides(tmp_path, clean, sides):
    """Also of an even one, whose centre lies beside the middle, as such a file has it."""
    pair = []
    for one, fwhm, side in zip(clean_pair(), (4.2, 3.4), sides, strict=True):
        y, x = np.mgrid[:side, :side] - side // 2
        image = np.exp(-(x * x + y * y) / (2 * (fwhm / 2.3548) ** 2))
        kernel = LinearCombinationKernel(
            (image / image.sum())[None], np.ones((1, 1)), (-0.5, -0.5, 511.5, 511.5)
        )
        write_exposure(tmp_path / "a.fits", one.replace(psf=KernelPsf(kernel, (255.5, 255.5))))
        pair.append(read_exposure(tmp_path / "a.fits"))
    found = difference(*pair)
    np.testing.assert_allclose(found.image.image, clean.image.image, atol=1e-4 * np.sqrt(800))


def test_u26_seeing_swapped_and_another_sky():
    science = exposure(noisy(light((512, 512), 3.2, [*stars(), *TRANSIENTS], sky=850), 2), 3.2)
    scatter, middle = noise(difference(science, exposure(frame(4.8, noise=3), 4.8)))
    assert abs(middle) < 0.05
    assert scatter == pytest.approx(1, abs=0.015)  # 3 % of the variance


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_u27_very_few_stars(count):
    found = difference(*pair_of(brightest(count)))
    assert finds_the_transients(found)
    assert found.facts["imageDifference:subtract.spatialKernelOrder"] == 0
    assert found.facts["imageDifference:subtract.spatialKernelSum"] == pytest.approx(1, abs=0.02)
    assert any(f"Only {count} kernel candidates" in line for line in found.said)


def test_u27_no_stars():
    nothing = exposure(noisy(light((512, 512), 4.2, []), 2), 4.2)
    with pytest.raises(NoStarsError, match="0 kernel candidates seen well in both images, 1 needed"):
        difference(nothing, exposure(noisy(light((512, 512), 3.4, []), 3), 3.4))


def test_u28_stars_in_a_third_of_the_frame():
    places = stars()
    places[:, 0] = 20 + (places[:, 0] - 20) / 3
    found = difference(*pair_of(places))
    assert finds_the_transients(found)
    assert np.isfinite(found.image.image).all()
    assert any(" in x (of 0 to 511): elsewhere it is extrapolated" in line for line in found.said)


def test_u29_one_faint_star():
    flux = 15 * np.sqrt(800) * 2 * np.sqrt(np.pi) * 4.2 / 2.3548
    science, template = (
        exposure(noisy(light((512, 512), fwhm, [(250, 260, flux)]), seed), fwhm)
        for fwhm, seed in ((4.2, 2), (3.4, 3))
    )
    with pytest.raises(NoStarsError, match=r"too faint: 1 with a S/N of 1\d together, 30 needed"):
        difference(science, template)


def test_u31_all_stars_variable():
    places = stars()
    places[:, 2] *= np.random.default_rng(4).uniform(0.3, 3, len(places))
    with pytest.raises(
        NoStarsError, match=r"only 2\d of 11\d stars have a common flux ratio .*\d\d variable"
    ):
        difference(*pair_of(places, stars()))


def test_u32_no_unflagged_source_near_missing_data():
    """None that is false, and one that is true, four pixels beside the missing ones, with a flag."""
    many = stars(800, 400, seed=5) - np.array([144, 144, 0])
    moved, cards = turned(2.0, (60, 0), many)
    science = exposure(noisy(light((512, 512), 4.2, [*many, (442, 250, 8000)]), 2), 4.2)
    found = difference(science, exposure(noisy(light((512, 512), 3.4, moved), 3), 3.4, cards=cards))
    row, distance = found.nearest(442, 250)
    assert distance < 1
    assert found.flagged[row]
    missing = found.image.has("NO_DATA")
    near = masks.grown(missing, kernel_half(found))
    column, row = np.rint(found.places).astype(int).T
    assert missing[250, 446]
    assert missing.sum() > 10000
    assert found.image.has("EDGE")[masks.grown(missing, 2) & ~missing].all()
    assert not (near[row, column] & ~found.flagged).any()


def test_u35_sides_that_are_prime_numbers():
    places = stars(480)
    science = noisy(light((487, 613), 4.2, [*places, *TRANSIENTS]), 2)
    template = noisy(light((487, 613), 3.4, places), 3)
    odd = difference(exposure(science, 4.2), exposure(template, 3.4))
    cut = np.s_[:486, :612]
    even = difference(exposure(science[cut], 4.2), exposure(template[cut], 3.4))
    both = ~(odd.image.has("NO_DATA")[cut] | even.image.has("NO_DATA"))
    moved = (odd.image.image[cut] - even.image.image) / np.sqrt(even.image.variance)
    assert np.abs(moved[both]).max() < 0.05
    assert finds_the_transients(odd)
    assert finds_the_transients(even)


def test_equal_seeing():
    """Nothing is to be matched: the noise stays white and true, and so do the transients."""
    found = difference(exposure(frame(3.8, extra=TRANSIENTS), 3.8), exposure(frame(3.8, noise=3), 3.8))
    assert finds_the_transients(found)
    assert not found.said
    scatter, middle = noise(found)
    assert abs(middle) < 0.05
    assert scatter == pytest.approx(1, abs=0.015)


def test_the_psf_follows_the_field_from_the_stars_to_the_difference(tmp_path):
    """Seeing from 3.4 pixels at the left to 5.0 at the right; bright transients have the PSF that is told."""
    size, new = 640, [(90.0, 320.0, 2e5), (550.0, 320.0, 2e5)]
    crowd = stars(size, 220, seed=6)
    crowd = crowd[np.abs(crowd[:, 1] - 320) > 25]

    def width(x):
        return 3.4 + 1.6 * x / (size - 1)

    science, every = np.full((size, size), 800.0), np.array([*crowd, *new])
    for left in range(0, size, 20):
        strip = every[(every[:, 0] >= left) & (every[:, 0] < left + 20)]
        science += light((size, size), width(left + 10), strip, sky=0)
    made = plain(tmp_path, noisy(science, 2), visit=1)
    for x in (90, 320, 550):
        kernel = made.exposure.psf.kernel_image(x, 320.0)
        assert np.sqrt(2 * np.log(2) / np.pi / np.sum(kernel**2)) == pytest.approx(width(x), rel=0.03)
    flat = plain(tmp_path, noisy(light((size, size), 3.0, crowd), 3), "flat.fits", visit=2)
    found = difference(with_sky(made), with_sky(flat), made.sources)
    for x, y, _ in new:
        model, x0, y0 = psf_image(found.image.psf, x, y)
        rows, columns = (
            slice(first, first + side) for first, side in zip((y0, x0), model.shape, strict=True)
        )
        pixels, variance = (
            plane[rows, columns].astype(float) for plane in (found.image.image, found.image.variance)
        )
        flux = (pixels * model).sum() / (model**2).sum()
        assert np.abs(pixels - flux * model).max() < 0.03 * pixels.max() + 4 * np.sqrt(variance.max())
        assert found.nearest(x, y)[1] < 0.1
