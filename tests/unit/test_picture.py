# SPDX-License-Identifier: BSD-3-Clause
"""The picture, by the colours at places that are known beforehand."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from diffrun.engine import picture
from diffrun.engine.picture import BACKGROUND, COLOURS, NO_DATA, Plane, Scene
from diffrun.engine.quality import DIPOLE, NEGATIVE, POSITIVE, Sources

N = 256
PLACES = {POSITIVE: (64.0, 192.0), NEGATIVE: (192.0, 192.0), DIPOLE: (64.0, 64.0)}


def scene(shape: tuple[int, int] = (N, N)) -> Scene:
    noise = [np.random.default_rng(k).normal(50 * k, 10, shape).astype(np.float32) for k in range(3)]
    mask = np.full(shape, 2, np.int32)
    mask[: shape[0] // 8] |= 4
    planes = [Plane(image, mask, 4 if k == 2 else 1, 50.0 * k) for k, image in enumerate(noise)]
    captions = ("science", "template", "difference")
    return Scene(*planes, 10.0, 10.0, (0.0, 1.0), (-1.0, 0.0), 0.2, "title", captions)


def sources() -> Sources:
    x, y = np.array(list(PLACES.values())).T
    kind = np.array(list(PLACES), np.int8)
    return Sources(x, y, kind, np.zeros(3, bool), np.array([30.0, -20.0, 9.0]))


def drawn(of: Scene, marked: Sources | None = None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png(of, marked or sources(), "footer"))), int)


def near(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(image - np.array(colour)).max(axis=2) <= 2


def test_the_same_scene_gives_the_same_bytes() -> None:
    assert picture.png(scene(), sources(), "") == picture.png(scene(), sources(), "")


def test_marks_stand_where_the_sources_are() -> None:
    image, without = drawn(scene()), drawn(scene(), Sources.none())
    side = (picture.WIDTH - 2 * picture.MARGIN - 2 * picture.GAP) // 3
    left, top = picture.MARGIN + 2 * (side + picture.GAP), 104
    panel = image[top : top + side, left : left + side]
    changed = np.abs(panel - without[top : top + side, left : left + side]).max(axis=2) > 0
    for kind, (x, y) in PLACES.items():
        column, row = (x + 0.5) * side / N, side - (y + 0.5) * side / N
        rows, columns = np.nonzero(near(panel, COLOURS[kind]) & changed)
        around = np.hypot(rows - row, columns - column) < 45
        assert around.sum() > 60
        assert rows[around].min() < row < rows[around].max()
        assert columns[around].min() < column < columns[around].max()


def test_without_a_wcs_there_is_no_compass() -> None:
    """Where its arrows would stand there is nothing but the image; the bar is in pixels."""
    image, without = drawn(scene()), drawn(replace(scene(), pixel_scale=float("nan")))
    side = (picture.WIDTH - 2 * picture.MARGIN - 2 * picture.GAP) // 3
    left, bottom = picture.MARGIN, 104 + side
    arrows = np.s_[bottom - 130 : bottom - 45, left + side - 135 : left + side - 60]
    assert near(image[arrows], picture.INK).sum() > 80
    assert near(without[arrows], picture.INK).sum() == 0
    bar = near(without[bottom - 22, left + 20 : left + side - 200][None], picture.INK)[0]
    assert bar.sum() == pytest.approx(50 * side / N, abs=3)


def test_no_data_is_at_the_bottom_of_the_difference_alone() -> None:
    image = drawn(scene())
    side = (picture.WIDTH - 2 * picture.MARGIN - 2 * picture.GAP) // 3
    quiet = near(image[104 : 104 + side], NO_DATA)
    left = picture.MARGIN + 2 * (side + picture.GAP)
    assert quiet[-side // 10 :, left : left + side].mean() > 0.99
    assert quiet[: -side // 7].mean() < 1e-3
    assert quiet[:, : left - picture.GAP].mean() < 1e-3


@pytest.mark.parametrize("shape", [(30, 30), (613, 487), (100, 900), (1200, 1000)])
def test_any_shape_fits(shape: tuple[int, int]) -> None:
    image = drawn(scene(shape))
    assert image.shape[1] == picture.WIDTH
    assert image.shape[0] < 1500
    assert near(image[:, : picture.MARGIN], BACKGROUND).all()
    assert near(image[:, -picture.MARGIN :], BACKGROUND).all()


def test_a_large_plane_is_shrunk_by_some_of_its_rows() -> None:
    y, x = np.mgrid[:2000, :900].astype(np.float32)
    image = 3 * x + 2 * y + 7
    mask = np.zeros(image.shape, np.int16)
    mask[:, 450:] = 1
    image[:200] = np.nan
    value, use = picture._resample(Plane(image, mask, 1, 7.0), (90, 200))
    assert use.tolist() == np.repeat([[False] * 90, [True] * 45 + [False] * 45], [20, 180], axis=0).tolist()
    expected = 3 * (10 * np.arange(90) + 4.5) + 2 * (10 * np.arange(200) + 4.5)[:, None]
    assert np.abs(value - expected)[use].max() < 2.0


def test_marks_are_apart_for_the_colour_blind() -> None:
    # luminance differences, and the blue-yellow axis, survive red-green blindness
    lab = {
        kind: (0.2126 * r + 0.7152 * g + 0.0722 * b, b - (r + g) / 2) for kind, (r, g, b) in COLOURS.items()
    }
    for first, second in ((POSITIVE, NEGATIVE), (POSITIVE, DIPOLE), (NEGATIVE, DIPOLE)):
        assert np.hypot(*np.subtract(lab[first], lab[second])) > 25


@pytest.mark.parametrize(
    ("most", "bar"), [(45.0, 20.0), (9.99, 5.0), (10.0, 10.0), (0.3, 0.2), (1234.0, 1000.0)]
)
def test_scale_bars_are_round(most: float, bar: float) -> None:
    assert picture.round_length(most) == pytest.approx(bar)


def test_stretches() -> None:
    assert picture.linear_grey(np.array([-9, -7, 0, 7, 9], np.float32), 7.0).tolist() == [0, 0, 0.5, 1, 1]
    grey = picture.asinh_grey(np.array([-100, -20, 0, 10, 1000, 1e9], np.float32), 10.0)
    assert (np.diff(grey) >= 0).all()
    assert (grey[0], grey[1], grey[-1]) == (0, 0, 1)
    assert 0.1 < grey[2] < 0.2
