# SPDX-License-Identifier: BSD-3-Clause
"""Detection against the slow matched filter, Gaussian theory and drawn footprints."""

import numpy as np
import pytest

from diffrun.engine.detect import detect, significance
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


def test_significance_is_the_matched_filter():
    exposure, stamp = noise(1), psf().kernel_image(0, 0)
    snr = significance(exposure, psf())
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
    snr = significance(exposure.replace(image=image), psf())
    assert np.abs(snr).max() < 6
    assert (snr[:, 100:110] == 0).all()


def test_false_detections_are_as_rare_as_gaussian_noise_makes_them():
    """Peaks over ν a pixel: ν exp(-ν²/2) / (2^(5/2) π^(3/2) σ²) (DMTN-006), here at 3.5 sigma."""
    nu, found = 3.5, 0
    for seed in range(6):
        footprints, _, _ = detect(significance(noise(seed + 10), psf()), (50, 70), nu, 0, None)
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
    footprints, positive, negative = detect(sources(), (50, 70), 5.0, 3, 2)
    peaks = [(f.peaks_x.tolist(), f.peaks_y.tolist(), np.sign(f.peaks_snr).tolist()) for f in footprints]
    assert peaks == [
        ([110], [120], [1.0]),
        ([250], [170], [-1.0]),
        ([350, 359], [370, 370], [1.0, -1.0]),
    ]
    assert positive[50, 60]
    assert negative[100, 200]
    assert not positive[100, 200]


def test_footprints_grow_in_the_manhattan_metric():
    plain, grown = (detect(sources(), (0, 0), 5.0, g, None, "positive")[1] for g in (0, 4))
    y, x = np.nonzero(plain[:150])
    yy, xx = np.mgrid[:150, :N]
    distance = np.min(np.abs(yy[..., None] - y) + np.abs(xx[..., None] - x), axis=-1)
    np.testing.assert_array_equal(grown[:150], distance <= 4)


def test_without_merging_both_signs_stay_apart():
    assert len(detect(sources(), (0, 0), 5.0, 3, None)[0]) == 4
    assert len(detect(sources(), (0, 0), 5.0, 3, None, "negative")[0]) == 2
