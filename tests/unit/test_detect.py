# SPDX-License-Identifier: BSD-3-Clause
"""Detection against the slow matched filter, Gaussian theory and drawn footprints."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from diffrun.engine import regions
from diffrun.engine.detect import Pixels, detect
from diffrun.engine.find import quality
from diffrun.engine.significance import Filter, preview
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf

N = 400
SIGMA = 2.0


def psf():
    u = np.arange(-12, 13)
    image = np.exp(-0.5 * (u[:, None] ** 2 + u[None, :] ** 2) / SIGMA**2)
    kernel = LinearCombinationKernel((image / image.sum())[None], np.ones((1, 1)), (0, 0, N, N))
    return KernelPsf(kernel, (N / 2, N / 2))


def noise(seed, mask=None):
    rng = np.random.default_rng(seed)
    variance = np.full((N, N), 9.0, np.float32)
    variance[:, N // 2 :] = 25.0
    image = (rng.normal(size=(N, N)) * np.sqrt(variance)).astype(np.float32)
    return Exposure(image, np.zeros((N, N), np.int32) if mask is None else mask, variance, None, xy0=(50, 70))


def significance(exposure):
    """The exact filter at every pixel."""
    rows, columns = np.mgrid[:N, :N].reshape(2, -1).astype(np.int32)
    judged = Filter(exposure.replace(psf=psf()), np.zeros((N, N), np.float32))
    return judged.at(rows, columns).snr().reshape(N, N)


def pixels(snr, least=3.0):
    rows, columns = np.nonzero(np.abs(snr) >= least)
    return Pixels(rows.astype(np.int32), columns.astype(np.int32), snr[rows, columns].astype(float))


def mask_of(runs):
    mask = np.zeros((N, N), bool)
    mask.ravel()[regions.pixels(runs, N)] = True
    return mask


def test_significance_is_the_matched_filter():
    exposure, stamp = noise(1), psf().kernel_image(0, 0)
    snr = significance(exposure)
    for row, column in ((20, 30), (200, 199), (300, 201), (350, 380)):
        window = np.s_[row - 12 : row + 13, column - 12 : column + 13]
        expected = (stamp * exposure.image[window]).sum() / np.sqrt(
            (stamp**2 * exposure.variance[window]).sum()
        )
        assert snr[row, column] == pytest.approx(expected, abs=2e-3)
    assert snr.std() == pytest.approx(1, abs=0.05)


def test_missing_pixels_are_as_if_the_image_ended_there():
    mask = np.zeros((N, N), np.int32)
    mask[:, 100:110] = 1 << 8
    exposure = noise(2, mask)
    image = exposure.image.copy()
    image[:, 100:110] = 1e6
    snr = significance(exposure.replace(image=image))
    assert np.abs(snr).max() < 6
    assert (snr[:, 100:110] == 0).all()


def test_false_detections_are_as_rare_as_gaussian_noise_makes_them():
    """Peaks over ν a pixel: ν exp(-ν²/2) / (2^(5/2) π^(3/2) σ²) (DMTN-006), here at 3.5 sigma."""
    nu, found = 3.5, 0
    for seed in range(6):
        exposure = noise(seed + 10).replace(psf=psf())
        rows, columns = preview(exposure, psf()).over(nu)
        snr = Filter(exposure, np.zeros((N, N), np.float32)).at(rows, columns).snr()
        footprints, _, _ = detect(Pixels(rows, columns, snr), (N, N), (50, 70), nu, 0, None)
        found += len(footprints)
    expected = 2 * 6 * N * N * nu * np.exp(-(nu**2) / 2) / (2**2.5 * np.pi**1.5 * SIGMA**2)
    assert found == pytest.approx(expected, rel=0.25)


def sources():
    """A significance image with a positive, a negative and a dipole source."""
    y, x = np.mgrid[:N, :N]

    def blob(cx, cy, height):
        return height * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / 8)

    return (blob(60, 50, 20) + blob(200, 100, -9) + blob(300, 300, 15) + blob(309, 300, -12)).astype(
        np.float32
    )


def test_footprints_have_signed_peaks_in_parent_pixels():
    footprints, positive, negative = detect(pixels(sources()), (N, N), (50, 70), 5.0, 3, 2)
    peaks = [(f.peaks_x.tolist(), f.peaks_y.tolist(), np.sign(f.peaks_snr).tolist()) for f in footprints]
    assert peaks == [
        ([110], [120], [1.0]),
        ([250], [170], [-1.0]),
        ([350, 359], [370, 370], [1.0, -1.0]),
    ]
    assert mask_of(positive)[50, 60]
    assert mask_of(negative)[100, 200]
    assert not mask_of(positive)[100, 200]


def test_footprints_grow_in_the_manhattan_metric():
    found = pixels(sources())
    plain, grown = (mask_of(detect(found, (N, N), (0, 0), 5.0, g, None, "positive")[1]) for g in (0, 4))
    y, x = np.nonzero(plain[:150])
    yy, xx = np.mgrid[:150, :N]
    distance = np.min(np.abs(yy[..., None] - y) + np.abs(xx[..., None] - x), axis=-1)
    np.testing.assert_array_equal(grown[:150], distance <= 4)


def test_without_merging_both_signs_stay_apart():
    assert len(detect(pixels(sources()), (N, N), (0, 0), 5.0, 3, None)[0]) == 4
    assert len(detect(pixels(sources()), (N, N), (0, 0), 5.0, 3, None, "negative")[0]) == 2


def test_regions_are_those_of_the_slow_dilation_and_labels():
    rng = np.random.default_rng(5)
    seeds = rng.random((N, N)) < 0.002
    seeds[0, :3] = seeds[-1, -1] = seeds[200:203, 100:140] = True
    rows, columns = (axis.astype(np.int32) for axis in np.nonzero(seeds))
    runs = regions.of_pixels(rows, columns, N)
    np.testing.assert_array_equal(mask_of(runs), seeds)
    for reach in (0, 1, 5):
        grown = regions.grown(runs, reach, (N, N))
        slow = binary_dilation(seeds, iterations=reach) if reach else seeds
        np.testing.assert_array_equal(mask_of(grown), slow)
        numbers, count = label(slow, structure=np.ones((3, 3)))
        own = regions.components(grown, N)
        assert own.max() + 1 == count
        lengths = grown[:, 2] - grown[:, 1] + 1
        np.testing.assert_array_equal(numbers.ravel()[regions.pixels(grown, N)] - 1, np.repeat(own, lengths))
        assert (np.diff(np.unique(own, return_index=True)[1]) > 0).all()


def test_the_quality_of_white_noise_is_told():
    """Noise that is 1.2 times what its variance says, a tenth of it spoilt by saturation."""
    exposure = noise(6).replace(psf=psf())
    saturated = np.zeros((N, N), bool)
    saturated[:, : N // 10] = True
    mask = np.where(saturated, exposure.bits("SAT"), 0).astype(np.int32)
    exposure = exposure.replace(mask=mask, image=exposure.image * np.float32(1.2))
    told = quality(Filter(exposure, np.zeros((N, N), np.float32)), ~saturated)
    task = "imageDifference:quality"
    assert told[f"{task}.noise"] == pytest.approx(1.2, rel=0.04)
    assert told[f"{task}.k"] == pytest.approx(1.2, rel=0.1)
    assert abs(told[f"{task}.lag1"]) < 0.04
    assert told[f"{task}.flaggedFraction"] == pytest.approx(0.1, abs=0.01)


def test_no_pixels_give_no_footprints():
    none = Pixels(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))
    footprints, positive, negative = detect(none, (N, N), (0, 0), 5.0, 3, 2)
    assert footprints == []
    assert len(positive) == len(negative) == 0


def test_the_preview_shows_what_the_exact_filter_finds():
    exposure = noise(7).replace(psf=psf())
    image = exposure.image.copy()
    stamp = psf().kernel_image(0, 0)
    for place, flux in zip(
        np.random.default_rng(8).integers(20, N - 20, (60, 2)), [900.0, -900.0] * 30, strict=True
    ):
        image[place[0] - 12 : place[0] + 13, place[1] - 12 : place[1] + 13] += (flux * stamp).astype(
            np.float32
        )
    exposure = exposure.replace(image=image, variance=exposure.variance + 0.3 * np.abs(image))
    snr = significance(exposure)
    for threshold, least in ((5.0, 500), (25.0, 30)):
        shown = np.zeros((N, N), bool)
        shown[preview(exposure, psf()).over(threshold)] = True
        assert (np.abs(snr) >= threshold).sum() > least
        assert not (~shown & (np.abs(snr) >= threshold)).any()


def test_a_wrong_match_at_a_star_is_no_source():
    """The contrast of the template under the PSF is its variance with the PSF as weight."""
    exposure, stamp = noise(9).replace(psf=psf()), psf().kernel_image(0, 0)
    science = exposure.image.copy()
    science[188:213, 188:213] += (3e4 * stamp).astype(np.float32)
    rows, columns = np.array([200, 203], np.int32), np.array([200, 198], np.int32)
    sums = Filter(exposure, science).at(rows, columns)
    for n in range(2):
        window = np.s_[rows[n] - 12 : rows[n] + 13, columns[n] - 12 : columns[n] + 13]
        template = (science - exposure.image)[window].astype(float)
        contrast = (stamp * template**2).sum() - (stamp * template).sum() ** 2
        assert sums.contrast2[n] == pytest.approx(contrast, rel=3e-3)
    expected = sums.signal / np.sqrt(sums.noise2 + 1e-4 * sums.contrast2)
    np.testing.assert_allclose(sums.snr(0.01), expected)
