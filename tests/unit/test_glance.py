# SPDX-License-Identifier: BSD-3-Clause
"""What a calexp shows at a glance, against images and catalogues made with known noise, stars and shifts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffrun.engine.glance import Look, sky_noise, usable
from diffrun.engine.starfield import Stars, common
from diffrun.files.afw.exposure import DEFAULT_PLANES, Exposure
from diffrun.files.afw.reader import read_bands, read_exposure
from diffrun.repository.dataid import DataId

SHAPE = (2000, 2000)


def an_exposure(noise: float, variance: float, seed: int = 1) -> Exposure:
    """A sloping sky with stars on it, a masked block of nonsense and a hole without data."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:512, :640].astype(np.float32)
    image = 200 + 0.02 * x + 0.01 * y + noise * rng.standard_normal(x.shape)
    for _ in range(60):
        cx, cy, flux = *rng.uniform(0, 500, 2), rng.uniform(1e3, 1e5)
        image += flux / (2 * np.pi * 4) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8)
    mask = np.zeros(x.shape, np.int32)
    mask[100:140, 200:260] |= 1 << DEFAULT_PLANES["BAD"]
    image[100:140, 200:260] = 1e6
    image[300:310] = np.nan
    plane = np.full(x.shape, variance, np.float32)
    return Exposure(image.astype(np.float32), mask, plane, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("noise", "variance", "factor"), [(10.0, 100.0, 1.0), (28.0, 28.0, 28**0.5), (10.0, 1e4, 0.1)]
)
def test_noise_and_its_ratio_to_the_variance_plane(noise: float, variance: float, factor: float) -> None:
    seen, ratio = sky_noise([an_exposure(noise, variance)])
    assert ratio == pytest.approx(factor, rel=0.04)
    assert seen == pytest.approx(noise, rel=0.04)


def test_no_noise_is_told_of_an_image_without_blank_sky() -> None:
    exposure = an_exposure(1.0, 1.0)
    masked = exposure.replace(mask=np.full_like(exposure.mask, 1 << DEFAULT_PLANES["SAT"]))
    assert np.isnan(sky_noise([masked])).all()


def test_the_part_of_the_pixels_that_hold_something() -> None:
    exposure = an_exposure(1.0, 1.0)
    image, hole, block = 512 * 640, 10 * 640, 40 * 60
    assert usable([exposure]) == pytest.approx((image - hole - block) / image, abs=1e-12)
    assert usable([exposure.replace(variance=np.zeros_like(exposure.variance))]) == 0.0


@dataclass(frozen=True)
class Turned:
    """A flat sky of 0.2 arcsec pixels, turned and shifted."""

    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0

    def pixel_to_sky(self, x: Any, y: Any) -> tuple[Any, Any]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        u, v = x - self.dx, y - self.dy
        return (c * u - s * v) * 0.2 / 3600, (s * u + c * v) * 0.2 / 3600

    def sky_to_pixel(self, ra: Any, dec: Any) -> tuple[Any, Any]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        u, v = ra * 3600 / 0.2, dec * 3600 / 0.2
        return c * u + s * v + self.dx, -s * u + c * v + self.dy


@dataclass(frozen=True)
class Summary:
    """What is looked at of a summary."""

    wcs: Turned
    shape: tuple[int, int] = SHAPE
    xy0: tuple[int, int] = (0, 0)


def a_look(wcs: Turned) -> Look:
    return Look(DataId(1, "r", "2,2", "1,1"), Path("S11.fits"), Summary(wcs), 4.0, 0.2)  # type: ignore[arg-type]


def stars_at(
    wcs: Turned, sky: tuple[Any, Any], flux: Any, scale: float = 1.0, wrong: tuple[float, float] = (0, 0)
) -> Stars:
    """The stars that such an image shows, brightest first, its WCS wrong by some pixels."""
    x, y = (np.asarray(p) + w for p, w in zip(wcs.sky_to_pixel(*sky), wrong, strict=True))
    there = (x > 0) & (y > 0) & (x < SHAPE[1]) & (y < SHAPE[0])
    order = np.argsort(-flux[there])
    return Stars(x[there][order], y[there][order], flux[there][order] * scale, 1.0, 4.0, True)


def a_sky(n: int, seed: int) -> tuple[tuple[Any, Any], Any]:
    rng = np.random.default_rng(seed)
    side = 4000 * 0.2 / 3600
    return (rng.uniform(-side / 4, side, n), rng.uniform(-side / 4, side, n)), rng.pareto(1.0, n) + 1


@pytest.mark.parametrize("n", [150, 1000, 8000])
@pytest.mark.parametrize("wrong", [(0.0, 0.0), (0.3, -0.8), (150.0, -31.5)])
@pytest.mark.parametrize("template", [Turned(), Turned(40, -30, 0.3), Turned(-1700, 0, 0.01)])
def test_the_shift_between_two_visits_is_found(n: int, wrong: tuple[float, float], template: Turned) -> None:
    sky, flux = a_sky(n, n)
    rng = np.random.default_rng(2)
    science = Turned()
    ours = stars_at(science, tuple(p + rng.normal(0, 2e-6, n) for p in sky), flux)  # 0.036 px
    theirs = stars_at(template, sky, flux, 0.5, wrong)
    seen = common(a_look(science), ours, a_look(template), theirs, 200.0)
    c, s = np.cos(template.angle), np.sin(template.angle)
    expected = (c * wrong[0] - s * wrong[1], s * wrong[0] + c * wrong[1])
    assert seen is not None
    if not seen.told:  # the strip in common has a few stars
        assert (n, template.dx) == (150, -1700)
        return
    assert seen.offset == pytest.approx(expected, abs=0.06)
    assert seen.ratio == pytest.approx(2.0, rel=1e-6)


def test_unrelated_stars_are_not_taken_for_the_same() -> None:
    (sky, flux), (other, fluxes) = a_sky(3000, 5), a_sky(3000, 6)
    for seed in range(5):
        shifted = Turned(17.0 * seed, 5.0, 0.1 * seed)
        seen = common(
            a_look(Turned()),
            stars_at(Turned(), sky, flux),
            a_look(shifted),
            stars_at(shifted, other, fluxes),
            200.0,
        )
        assert seen is not None
        assert (seen.number, seen.told) == (0, True)


def test_bands_are_rows_of_the_exposure(subset: Path) -> None:
    path = next(subset.glob("calexp/v230-fr/R22/S11.fits"))
    whole = read_exposure(path)
    bands = read_bands(path, 200_000, 64)
    assert len(bands) == 3
    for band in bands:
        first = band.xy0[1] - whole.xy0[1]
        rows = slice(first, first + band.shape[0])
        for plane in ("image", "mask", "variance"):
            np.testing.assert_array_equal(getattr(band, plane), getattr(whole, plane)[rows])
    (all_of_it,) = read_bands(path, 10**9, 64)
    np.testing.assert_array_equal(all_of_it.image, whole.image)


def test_bands_of_a_compressed_exposure(shared_data: Path) -> None:
    paths = sorted((shared_data / "lsst_reference").glob("*.fits*"))
    compressed = [path for path in paths if b"ZIMAGE" in path.read_bytes()[:40_000]]
    assert compressed
    whole = read_exposure(compressed[0])
    bands = read_bands(compressed[0], whole.image.size // 3, 16)
    assert len(bands) > 1
    for band in bands:
        first = band.xy0[1] - whole.xy0[1]
        np.testing.assert_array_equal(band.image, whole.image[first : first + band.shape[0]])
