# SPDX-License-Identifier: BSD-3-Clause
"""Resampling against the slow sum of its definition, and what it does to flux, noise and masks."""

import numpy as np
import pytest

from diffrun.engine.warp import _weigh, lanczos_table, warp
from diffrun.errors import NoOverlapError
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure


class Linear:
    """An affine world: sky = matrix @ pixel + offset."""

    def __init__(self, matrix, offset):
        self.matrix, self.offset = np.asarray(matrix, float), np.asarray(offset, float)

    def pixel_to_sky(self, x, y):
        return tuple(self.matrix @ np.stack([x, y]) + self.offset[:, None])

    def sky_to_pixel(self, ra, dec):
        return tuple(np.linalg.solve(self.matrix, np.stack([ra, dec]) - self.offset[:, None]))


def rotation(degrees, scale=1.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * np.array([[c, -s], [s, c]])


def exposure(image, wcs, xy0=(0, 0), mask=None):
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    return Exposure(image.astype(np.float32), mask, np.ones(image.shape, np.float32), wcs, xy0=xy0)


def star(n, x, y, sigma=2.0, flux=1000.0):
    yy, xx = np.mgrid[:n, :n]
    return flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((xx - x) ** 2 + (yy - y) ** 2) / sigma**2)


SCIENCE = exposure(np.zeros((90, 100)), Linear(np.eye(2), (0, 0)), xy0=(40, 30))


@pytest.mark.parametrize("order", [3, 4, 5])
def test_every_pixel_is_the_lanczos_sum(order):
    rng = np.random.default_rng(order)
    template = exposure(rng.normal(size=(140, 150)), Linear(rotation(1.5), (7.3, -4.6)), xy0=(20, 10))
    result = warp(template, SCIENCE, order=order).exposure
    for row, column in rng.integers(5, 85, (30, 2)):
        (x,), (y,) = template.wcs.sky_to_pixel(np.array([column + 40.0]), np.array([row + 30.0]))
        x, y = x - 20, y - 10
        taps = np.arange(-order + 1, order + 1)

        def weights(t):
            return np.sinc(t) * np.sinc(t / order)

        wx, wy = weights(x - np.floor(x) - taps), weights(y - np.floor(y) - taps)
        window = template.image[
            int(y) - order + 1 : int(y) + order + 1, int(x) - order + 1 : int(x) + order + 1
        ]
        expected = wy @ window @ wx / (wx.sum() * wy.sum())
        assert result.image[row, column] == pytest.approx(expected, abs=2e-4)


def test_flux_is_conserved_when_the_pixels_change_size():
    template = exposure(star(200, 100.3, 95.8, sigma=3.0), Linear(rotation(20, 0.8), (0, 10)))
    (x,), (y,) = template.wcs.pixel_to_sky(np.array([100.3]), np.array([95.8]))
    science = exposure(np.zeros((160, 160)), Linear(np.eye(2), (0, 0)), xy0=(int(x) - 80, int(y) - 80))
    image = warp(template, science).exposure.image
    assert image.sum() == pytest.approx(1000, rel=1e-3)
    yy, xx = np.mgrid[:160, :160]
    assert (image * xx).sum() / image.sum() + science.xy0[0] == pytest.approx(x, abs=5e-3)
    assert (image * yy).sum() / image.sum() + science.xy0[1] == pytest.approx(y, abs=5e-3)


def test_a_border_adds_pixels_on_each_side():
    rng = np.random.default_rng(0)
    template = exposure(rng.normal(size=(200, 200)), Linear(rotation(1.0), (3.0, -2.0)))
    plain, grown = warp(template, SCIENCE).exposure, warp(template, SCIENCE, border=7).exposure
    assert grown.shape == (104, 114)
    assert grown.xy0 == (33, 23)
    np.testing.assert_allclose(grown.image[7:-7, 7:-7], plain.image, atol=2e-3)


def test_the_power_left_of_white_noise_is_told():
    rng = np.random.default_rng(5)
    template = exposure(rng.normal(size=(700, 700)), Linear(rotation(1.0), (0, 0)))
    science = exposure(np.zeros((512, 512)), Linear(np.eye(2), (0, 0)), xy0=(60, 60))
    result = warp(template, science)
    spectrum = np.abs(np.fft.fft2(result.exposure.image)) ** 2 / 512**2
    power = result.resampling.power(64)
    measured = spectrum.reshape(64, 8, 64, 8).mean(axis=(1, 3))
    low = np.s_[:28, :28]
    assert np.mean(measured[low] / power[low]) == pytest.approx(1, abs=0.03)
    assert power.mean() == pytest.approx(result.exposure.image.var(), rel=0.02)


def test_masks_go_by_name_and_saturation_gets_its_own():
    mask = np.zeros((200, 200), np.int32)
    planes = {"SAT": 7, "BAD": 2, "DETECTED": 0, "NO_DATA": 4}
    mask[100, 100], mask[110, 120], mask[:, 150] = 1 << 7 | 1, 1 << 2, 1 << 4
    template = exposure(np.ones((200, 200)), Linear(np.eye(2), (0.4, 0.4)), mask=mask).replace(planes=planes)
    result = warp(template, SCIENCE).exposure
    at = np.s_[100 - 30, 100 - 40]
    assert result.has("SAT_TEMPLATE")[at]
    assert not result.has("SAT").any()
    assert not result.has("DETECTED").any()
    assert result.has("BAD").sum() == 4
    assert "SAT_TEMPLATE" not in DEFAULT_PLANES


def test_no_overlap_is_refused():
    template = exposure(np.ones((50, 50)), Linear(np.eye(2), (5000.0, 0.0)))
    with pytest.raises(NoOverlapError, match="does not overlap"):
        warp(template, SCIENCE)


def test_what_the_template_does_not_reach_is_no_data():
    template = exposure(np.ones((80, 80)), Linear(np.eye(2), (40.0, 30.0)))
    result = warp(template, SCIENCE).exposure
    missing = result.has("NO_DATA")
    assert missing[:, 80:].all()
    assert missing[78:].all()
    assert not missing[10:70, 10:70].any()
    np.testing.assert_allclose(result.image[10:70, 10:70], 1, atol=1e-5)


def test_the_table_reaches_both_whole_pixels():
    table = lanczos_table(3)
    np.testing.assert_allclose(table[0], [0, 0, 1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(table[-1], [0, 0, 0, 1, 0, 0], atol=1e-15)


def test_a_phase_that_rounds_to_one_stays_in_the_table():
    """The weights next to the table are whatever lies in memory there."""
    table = np.full((5, 6), np.nan, np.float32)
    table[:3] = np.arange(3, dtype=np.float32)[:, None]
    weights = np.zeros(6, np.float32)
    _weigh(table[:3], np.float32(1 - 1e-9), weights, 6)
    np.testing.assert_array_equal(weights, 2.0)
