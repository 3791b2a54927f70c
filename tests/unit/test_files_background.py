# SPDX-License-Identifier: BSD-3-Clause
"""The subtracted sky against the raw frames it was subtracted from, and against a slow twin."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from diffrun.errors import DataError
from diffrun.files.afw.background import (
    Background,
    Layer,
    background_to_bytes,
    read_background,
    write_background,
)
from diffrun.files.afw.reader import read_exposure


def sky(
    bins: tuple[int, int] = (7, 9), box: tuple[int, int, int, int] = (3, 4, 130, 90), **more: object
) -> Layer:
    rng = np.random.default_rng(1)
    statistics = (700 + rng.normal(size=bins)).astype(np.float32)
    return Layer(statistics, rng.uniform(0.5, 2, bins).astype(np.float32), box, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("visit", "frame"), [(4192, "004192-r4-0300"), (6377, "006377-r4-0399")])
def test_image_and_background_make_the_raw_frame(shared_data: Path, visit: int, frame: str) -> None:
    """What the stack subtracted: its calexp plus this must be (DN - 1000) gain of the camera's own frame."""
    folder = shared_data / "stripe82_repo" / "calexp" / f"v{visit}-fr" / "R22"
    exposure = read_exposure(folder / "S11.fits")
    background = read_background(folder / "bkgd-S11.fits")
    assert [(layer.order, layer.box[:2]) for layer in background.layers] == [(6, exposure.xy0)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = fits.getdata(shared_data / "stripe82" / f"fpC-{frame}.fit.gz").astype(float)
    x0, y0 = exposure.xy0
    electrons = (raw[y0 : y0 + 1100, x0 : x0 + 1100] - 1000) * 4.76000022888184
    deviation = np.abs(exposure.image + background.image(exposure.shape) - electrons)
    assert (deviation < 2e-4 + 2 * np.abs(electrons) * np.finfo(np.float32).eps).all()


def centres(length: int, bins: int) -> np.ndarray:
    """Centres of bins whose edges are the rounded parts of the length."""
    edges = [0] + [min(((i + 1) * length + bins // 2) // bins, length) for i in range(bins)]
    return np.array([edges[i] + 0.5 * (edges[i + 1] - edges[i]) - 0.5 for i in range(bins)])


def slow(layer: Layer, style: str) -> np.ndarray:
    """One spline a column, one spline a row; outside the outermost bins a parabola."""
    width, height = layer.box[2:]

    def along(x: np.ndarray, values: np.ndarray, n: int) -> list[float]:
        good = np.isfinite(values)
        x, values = x[good], values[good]
        curve = (
            Akima1DInterpolator(x, values) if style == "akima" else CubicSpline(x, values, bc_type="natural")
        )
        out = []
        for at in range(n):
            end = min(max(at, x[0]), x[-1])
            out.append(float(curve(end) + (at - end) * curve(end, 1) + (at - end) ** 2 / 2 * curve(end, 2)))
        return out

    ny, nx = layer.statistics.shape
    x, y = centres(width, nx), centres(height, ny)
    values = layer.statistics.astype(float)
    columns = [along(y, values[:, i], height) for i in range(nx) if np.isfinite(values[:, i]).any()]
    kept = x[np.isfinite(values).any(axis=0)]
    return np.array([along(kept, np.array([column[j] for column in columns]), width) for j in range(height)])


@pytest.mark.parametrize(("style", "twin"), [("NATURAL_SPLINE", "natural"), ("AKIMA_SPLINE", "akima")])
def test_bins_are_joined_as_by_the_slow_twin(style: str, twin: str) -> None:
    layer = sky(style=style)
    layer.statistics[3, 2] = np.nan
    layer.statistics[:, 6] = np.nan
    image = layer.image()
    assert image.shape == (90, 130)
    assert np.abs(image - slow(layer, twin)).max() < 1e-4


def test_few_bins_are_joined_more_simply() -> None:
    flat = sky(bins=(1, 1)).image()
    assert np.array_equal(flat, np.full((90, 130), flat[0, 0]))
    two = sky(bins=(2, 2))
    image = two.image()
    assert image[22:23, 32:33] == pytest.approx(two.statistics[0, 0], abs=0.05)
    assert np.allclose(np.diff(image[10], 2), 0, atol=2e-4)


def test_a_polynomial_is_found_again() -> None:
    def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 500 + 0.3 * x - 0.1 * y + 2e-3 * x * y + 1e-3 * x**2

    layer = sky(order=2)
    ny, nx = layer.statistics.shape
    layer.statistics[:] = plane(*np.meshgrid(centres(130, nx), centres(90, ny)))
    y, x = np.mgrid[0:90, 0:130]
    assert np.abs(layer.image() - plane(x, y)).max() < 2e-3


def test_a_background_comes_back_as_it_was_written(tmp_path: Path) -> None:
    sent = Background([sky(), sky(order=3, weighting=False), sky(style="NATURAL_SPLINE")])
    write_background(tmp_path / "bkgd.fits", sent)
    back = read_background(tmp_path / "bkgd.fits")
    assert np.array_equal(back.image((90, 130)), sent.image((90, 130)))
    assert [(layer.style, layer.order, layer.weighting, layer.box) for layer in back.layers] == [
        (layer.style, layer.order, layer.weighting, layer.box) for layer in sent.layers
    ]
    assert background_to_bytes(back) == (tmp_path / "bkgd.fits").read_bytes()
    with fits.open(tmp_path / "bkgd.fits") as hdus:
        assert len(hdus) == 9
        for hdu in hdus:
            assert (hdu.header["BKGD_X0"], hdu.header["BKGD_WIDTH"], hdu.header["UNDERSAMPLESTYLE"]) == (
                3,
                130,
                1,
            )
        assert (hdus[0].header["APPROXSTYLE"], hdus[3].header["APPROXSTYLE"]) == (-1, 0)
        assert (hdus[3].header["APPROXORDERX"], hdus[3].header["APPROXWEIGHTING"]) == (3, False)


def test_the_wrong_image_or_a_hole_is_refused() -> None:
    with pytest.raises(DataError, match="the background has 130 x 90 pixels, the image 131 x 90; give"):
        Background([sky()]).image((90, 131))
    empty = sky()
    empty.statistics[:] = np.nan
    with pytest.raises(DataError, match="not finite"):
        Background([empty]).image((90, 130))
    with pytest.raises(DataError, match="bins are too few for a sky of order 6"):
        Background([sky(bins=(3, 3), order=6)]).image((90, 130))
