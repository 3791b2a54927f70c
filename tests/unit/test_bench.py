# SPDX-License-Identifier: BSD-3-Clause
"""The bench's own truth: its PSF against GalSim, its measures on noise and sources known beforehand."""

from __future__ import annotations

import sys
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.table import Table
from scipy.ndimage import gaussian_filter, maximum_filter

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

import measures
import subject as subjects
import truepsf
import truths

SIDE, SIGMA = 700, 2.0


def gaussian(x=0.0, y=0.0, side=25):
    offset = np.arange(side) - side // 2
    image = np.exp(-((offset[None, :] - x) ** 2 + (offset[:, None] - y) ** 2) / (2 * SIGMA**2))
    return image / image.sum()


def a_truth(x=(), y=(), flux=(), snr=(), static=()):
    n = len(x)
    change = Table(
        {"kind": np.full(n, "blank"), "x": np.array(x, float), "y": np.array(y, float),
         "flux": np.array(flux, float), "flux_wide": np.array(flux, float),
         "flux_total": np.array(flux, float), "base": np.zeros(n), "snr": np.array(snr, float)}
    )  # fmt: skip
    rows = np.array(static, float).reshape(-1, 3)
    table = Table({"kind": np.full(len(rows), "star"), "x": rows[:, 0], "y": rows[:, 1], "flux": rows[:, 2],
                   "size": np.zeros(len(rows))})  # fmt: skip
    return subjects.Truth(change, table, (2.3548 * SIGMA, 2.0), 1.0)


def a_subject(image, sources=None, variance=1.0):
    none = np.zeros(0)
    sources = sources or subjects.Sources(none, none, none, none, np.zeros(0, bool), none)
    return subjects.Subject(
        image.astype(np.float32), np.full(image.shape, variance, np.float32), np.zeros(image.shape, bool),
        lambda x, y: gaussian(), sources, kernel_sum=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def white():
    return np.random.default_rng(5).standard_normal((SIDE, SIDE))


def test_the_profile_is_galsims():
    radius = np.array([0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0])
    theirs = galsim.Kolmogorov(fwhm=1.0, gsparams=galsim.GSParams(kvalue_accuracy=1e-8, xvalue_accuracy=1e-8))
    ours = np.interp(radius, np.arange(len(truepsf.table(0.0))) * truepsf.STEP, truepsf.table(0.0))
    np.testing.assert_allclose(ours, [theirs.xValue(r, 0) for r in radius], rtol=2e-3)


def test_a_sheared_star_is_galsims():
    bend = np.zeros((3, 5))
    bend[1, 0], bend[2, 0] = 0.02, -0.03
    psf = truepsf.TruePsf(5.0, 0.0, (100, 100), bend)
    theirs = galsim.Kolmogorov(fwhm=5.0).shear(g1=0.02, g2=-0.03)
    drawn = theirs.drawImage(nx=31, ny=31, scale=1.0, method="no_pixel", offset=(0.3, -0.2)).array
    np.testing.assert_allclose(psf.stamp(50, 50, 31, 0.3, -0.2), drawn, atol=2e-5)


def test_ideal_power_of_one_noisy_frame_is_the_matched_filters():
    star = gaussian()
    assert truths.ideal_power(star, gaussian(), 4.0, 1e-12) == pytest.approx((star**2).sum() / 4, rel=1e-3)


def test_white_noise_is_white(white):
    subject = a_subject(white)
    blank = measures.blank_sky(subject, a_truth())
    numbers = measures.noise(subject, blank) | measures.matched_filter(subject, blank)
    assert numbers["noise"] == pytest.approx(1, abs=0.01)
    assert numbers["noise_plain"] == pytest.approx(1, abs=0.01)
    assert abs(numbers["lag1_x"]) < 0.005
    assert numbers["k"] == pytest.approx(1, abs=0.03)


def test_a_wrong_map_and_correlated_noise_are_seen(white):
    mixed = (white + 0.2 * np.roll(white, 1, axis=1)) / np.hypot(1, 0.2)
    subject = a_subject(1.1 * mixed)
    numbers = measures.noise(subject, measures.blank_sky(subject, a_truth()))
    assert numbers["noise"] == pytest.approx(1.1, abs=0.01)
    assert numbers["lag1_x"] == pytest.approx(0.2 / 1.04, abs=0.01)
    assert abs(numbers["lag1_y"]) < 0.01


def test_light_is_not_blank(white):
    blank = measures.blank_sky(a_subject(white), a_truth(static=[(300, 200, 1e5)]))
    assert not blank[200, 300]
    assert blank[500, 500]


def test_sources_are_told_apart(white):
    """Found, of the wrong sign, flagged, on a star, on blank sky."""
    x = np.array([100.0, 200, 300, 500, 600])
    flux = np.array([90.0, 90, 90, 90, 90])
    flagged = np.array([False, False, True, False, False])
    sources = subjects.Sources(x, np.full(5, 350.0), flux, np.full(5, 9.0), flagged, flux)
    truth = a_truth([101, 200, 300], [350] * 3, [95, -90, 90], [10.5, 10, 8], static=[(500, 352, 5000)])
    subject = a_subject(white, sources)
    found = measures.matches(sources, truth)
    assert list(found.source) == [0, -1, -1]
    numbers = measures.completeness(truth, found) | measures.false_positives(subject, truth, found)
    assert (numbers["found_10+"], numbers["true_10+"], numbers["true_7-10"]) == (1, 2, 1)
    assert (numbers["false_source"], numbers["false_blank"], numbers["false_saturated"]) == (1, 1, 0)


def test_expected_peaks_are_those_of_filtered_noise():
    """Against a count of local extremes beyond 3 sigma, where the formula's limit is nearly reached."""
    rng = np.random.default_rng(8)
    count, expected = 0, 0.0
    for _ in range(6):
        smooth = gaussian_filter(rng.standard_normal((SIDE, SIDE)), SIGMA, mode="wrap")
        smooth /= np.sqrt((gaussian() ** 2).sum())
        height = np.abs(smooth)
        count += int(((maximum_filter(height, 3, mode="wrap") == height) & (height > 3)).sum())
        subject = a_subject(smooth)
        expected += measures.expected_peaks(
            subjects.Subject(subject.image, subject.variance, subject.spoilt, subject.psf, subject.sources,
                             threshold=3.0)
        )  # fmt: skip
    assert count == pytest.approx(expected, rel=0.15)


def test_a_bias_is_measured():
    rng = np.random.default_rng(2)
    n = 200
    true = rng.uniform(100, 400, n)
    x, y = rng.uniform(30, SIDE - 30, (2, n))
    flux = 0.98 * true + 7.0 * rng.standard_normal(n)
    sources = subjects.Sources(x + 0.05, y, flux, np.full(n, 7.0), np.zeros(n, bool), flux)
    truth = a_truth(x, y, true, true / 7.0)
    subject = a_subject(np.zeros((SIDE, SIDE)), sources)
    found = measures.Found(np.arange(n), np.ones(n, bool))
    numbers = measures.fluxes(subject, truth, found) | measures.positions(subject, truth, found)
    assert numbers["bias_all"] == pytest.approx(-0.02, abs=4 * numbers["bias_error_all"])
    assert numbers["pull_all"] == pytest.approx(1, abs=0.2)
    assert numbers["offset_x"] == pytest.approx(0.05, abs=1e-6)


def test_flux_outside_the_psf_is_seen(white):
    """Sources whose light in the aperture is 3 % more than the PSF says."""
    n = 50
    x = y = np.linspace(30, SIDE - 30, n)
    flux = np.full(n, 1000.0)
    subject = a_subject(white)
    inside = measures._in_aperture(subject, 0.0, 0.0)
    sources = subjects.Sources(x, y, flux, np.full(n, 7.0), np.zeros(n, bool), 1.03 * inside * flux)
    truth = a_truth(x, y, flux, np.full(n, 40.0))
    found = measures.Found(np.arange(n), np.ones(n, bool))
    assert measures.psf_predicts_flux(a_subject(white, sources), truth, found)["psf_flux"] == pytest.approx(
        0.03, abs=1e-6
    )
