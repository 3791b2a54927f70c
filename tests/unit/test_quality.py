# SPDX-License-Identifier: BSD-3-Clause
"""The numbers that judge a difference, on noise and residuals that are known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffrun.engine import quality
from diffrun.files.afw.catalog import Catalog, Field
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure

SHAPE = (400, 500)
XY0 = (1400, 1600)


class Plane:
    """A sky that is a plane: 1 degree a pixel."""

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[Any, Any]:
        return ra, dec


def exposure(image: NDArray[np.floating], variance: float = 1.0) -> Exposure:
    planes = np.full(image.shape, variance, np.float32)
    mask = np.zeros(image.shape, np.int32)
    return Exposure(image.astype(np.float32), mask, planes, Plane(), xy0=XY0)


def masked(base: Exposure, plane: str, box: tuple[slice, slice], value: float) -> Exposure:
    mask, image = base.mask.copy(), base.image.copy()
    mask[box] |= 1 << DEFAULT_PLANES[plane]
    image[box] = value
    return base.replace(mask=mask, image=image)


def everywhere() -> quality.Sky:
    ny, nx = SHAPE
    return quality.Sky(np.arange(ny)[None], np.ones((1, ny, nx), bool))


def catalog(**columns: Any) -> Catalog:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    fields = [Field(name, "Flag" if column.dtype == bool else "D") for name, column in arrays.items()]
    return Catalog(fields, arrays, {"slot_Centroid": "base_SdssCentroid", "slot_PsfFlux": "base_PsfFlux"})


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
def test_noise_ratio_of_white_noise(factor: float) -> None:
    white = np.random.default_rng(1).normal(3.0, 2.0 * factor, SHAPE)
    found = quality.noise(exposure(white, 4.0), everywhere())
    assert found["noise_ratio"] == pytest.approx(factor, rel=0.01)
    assert found["lag1_correlation"] == pytest.approx(0.0, abs=0.006)


def test_correlation_of_smoothed_noise() -> None:
    white = np.random.default_rng(2).normal(size=(SHAPE[0], SHAPE[1] + 1))
    smooth = (white[:, 1:] + 0.25 * white[:, :-1]) / np.sqrt(1 + 0.25**2)
    found = quality.noise(exposure(smooth), everywhere())
    # 0.25 / (1 + 0.25^2) along x, nothing along y; the mean of both is given
    assert found["lag1_correlation"] == pytest.approx(0.25 / 1.0625 / 2, abs=0.006)


def test_sources_and_defects_are_no_blank_sky() -> None:
    white = exposure(np.random.default_rng(3).normal(size=SHAPE))
    spoiled = masked(white, "NO_DATA", np.s_[:, 100:140], np.nan)
    spoiled = masked(spoiled, "DETECTED", np.s_[50:90, 200:300], 1e4)
    science = masked(white, "SAT", np.s_[300:310], 1e5)
    sky = quality.blank_sky(spoiled, science)
    assert sky.blank.sum() == SHAPE[0] * SHAPE[1] - 400 * 40 - 40 * 100 - 10 * 460
    assert quality.noise(spoiled, sky)["noise_ratio"] == pytest.approx(1.0, rel=0.01)


def test_too_little_sky_gives_no_numbers() -> None:
    white = exposure(np.zeros(SHAPE))
    assert (
        quality.noise(white, quality.Sky(np.arange(1)[None], np.zeros((1, 1, SHAPE[1]), bool)))["noise_ratio"]
        is None
    )


def stars(n: int, **further: Any) -> Catalog:
    r = np.random.default_rng(4)
    x, y = r.uniform(20, 480, n) + XY0[0], r.uniform(20, 380, n) + XY0[1]
    flux = np.full(n, 500.0)
    point = np.zeros(n)
    return catalog(
        base_SdssCentroid_x=x, base_SdssCentroid_y=y, base_PsfFlux_flux=flux,
        base_PsfFlux_fluxSigma=flux / 100,
        base_ClassificationExtendedness_value=further.pop("extendedness", point), **further,
    )  # fmt: skip


@pytest.mark.parametrize("extra", [0.0, 2.0])
def test_residuals_at_stars(extra: float) -> None:
    found = stars(200)
    image, more = np.random.default_rng(5).normal(size=(2, *SHAPE))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    near = np.zeros(SHAPE, bool)
    for px, py in zip(found["slot_Centroid_x"] - XY0[0], found["slot_Centroid_y"] - XY0[1], strict=True):
        near |= np.hypot(x - px, y - py) < 3
    image += np.where(near, extra * more, 0)
    chi2 = quality.star_residuals(exposure(image), found)
    assert len(chi2) == 200
    # stars of radius 3 in circles of radius 6: a quarter of the pixels has the extra variance
    assert np.median(chi2) == pytest.approx(1 + extra**2 / 4, rel=0.15)


def test_only_clean_points_are_stars() -> None:
    n = 100
    extended = np.arange(n) % 2 == 0
    saturated = np.arange(n) % 5 == 0
    found = stars(n, extendedness=extended.astype(float), base_PixelFlags_flag_saturated=saturated)
    white = exposure(np.random.default_rng(7).normal(size=SHAPE))
    assert len(quality.star_residuals(white, found)) == np.sum(~extended & ~saturated)


def test_kinds_of_sources() -> None:
    found = catalog(
        coord_ra=np.zeros(4), coord_dec=np.full(4, np.radians(7.0)),
        base_SdssCentroid_x=[1410.0, 1420.0, 1430.0, np.nan],
        base_SdssCentroid_y=[1610.0, 1620.0, 1630.0, np.nan],
        base_PsfFlux_flux=[50.0, -60.0, 3.0, -8.0], base_PsfFlux_fluxSigma=[5.0, 5.0, 5.0, 0.0],
        flags_negative=[False, True, False, True],
        ip_diffim_DipoleFit_flag_classification=[False, False, True, False],
        base_PixelFlags_flag_edge=[False, True, False, False],
    )  # fmt: skip
    sources = quality.sources(found, exposure(np.zeros(SHAPE)))
    assert sources.kind.tolist() == [quality.POSITIVE, quality.NEGATIVE, quality.DIPOLE, quality.NEGATIVE]
    assert sources.counts() == {"total": 4, "positive": 1, "negative": 2, "dipole": 1, "flagged": 1}
    assert sources.snr[:2].tolist() == [10.0, -12.0]
    assert sources.y[3] == pytest.approx(7.0)


def test_a_large_image_is_sampled_evenly_and_gives_the_same_numbers() -> None:
    rng = np.random.default_rng(9)
    ny, nx = 2600, 2000
    white = rng.normal(0.0, 1.2, (ny, nx + 1))
    large = exposure(white[:, 1:] + 0.25 * white[:, :-1])
    sky = quality.blank_sky(large, large)
    found = quality.noise(large, sky)
    assert found["noise_ratio"] == pytest.approx(1.2 * np.sqrt(1.0625), rel=0.003)
    assert found["lag1_correlation"] == pytest.approx(0.25 / 1.0625 / 2, abs=0.002)
    assert sky.rows.min() == 0
    assert sky.rows.max() == ny - 1
    assert ny // 6 < sky.rows.size < ny // 4
    assert sky.blank.all()
    free = int(np.setdiff1d(np.arange(ny), sky.rows)[0])
    covered = masked(large, "DETECTED", np.s_[:free], 0.0)
    covered = masked(covered, "DETECTED", np.s_[free + 1 :], 0.0)
    assert quality.blank_sky(covered, large).blank.sum() == nx


def test_what_bright_stars_leave_is_told_once() -> None:
    """The match foretells it by its stars, in a warning of its own."""
    left, foretold = {"imageDifference:quality.modelError": 0.03}, "imageDifference:subtract.mismatch"
    assert len(quality.warnings(left)) == len(quality.warnings({**left, foretold: 0.01})) == 1
    assert quality.warnings({**left, foretold: 0.04}) == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("noise", 1.029, 0.969),
        ("k", 0.951, 1.051),
        ("modelError", 0.019, 0.021),
        ("psfFlux", 1.019, 0.979),
        ("fluxScale", 0.951, 1.051),
    ],
)
def test_numbers_of_the_engine_that_are_off_are_told(name: str, good: float, bad: float) -> None:
    key = f"imageDifference:quality.{name}"
    assert quality.warnings({key: good}) == []
    (line,) = quality.warnings({key: bad})
    assert line.startswith("this subtraction may be bad: ")
    assert quality.warnings({}) == []
    assert len(quality.warnings({key: float("nan")})) == 1
