# SPDX-License-Identifier: BSD-3-Clause
"""Blocks that were filled with one value hold no data, whether a mask says so or not."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
import smallrepository

from diffrun.engine import masks, program
from diffrun.engine.blocks import marked
from diffrun.files.afw.background import Background, Layer, write_background
from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure, read_kernel
from diffrun.files.afw.writer import write_exposure
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

RECIPE = Path(__file__).parents[2] / "configs" / "diffimconfig.py"
SCIENCE, TEMPLATE = DataId(1, "r", "2,2", "1,1"), DataId(2, "r", "2,2", "1,1")
FLAGS = ("edge", "bad", "suspect", "saturatedCenter", "interpolatedCenter", "offimage")


def blank(shape=(203, 301), sigma=5.0, seed=1):
    image = np.random.default_rng(seed).normal(3, sigma, shape).astype(np.float32)
    return Exposure(image, np.zeros(shape, np.int32), np.full(shape, sigma**2, np.float32), None)


@pytest.fixture
def said():
    root = logging.getLogger()
    before, level = root.handlers, root.level
    yield
    root.handlers, root.level = before, level
    logging.captureWarnings(False)


def test_filled_gaps_of_either_image_make_no_sources(tmp_path, capsys, said):
    """A gap and a corner of the science image at 0, a gap of the template at -99, and a sloping sky."""
    repository = smallrepository.make(tmp_path / "repo")
    levels = np.float32([[780, 800], [810, 820]])
    layer = Layer(levels, levels, (*smallrepository.XY0, 256, 256), "LINEAR")
    gaps = {SCIENCE: ((np.s_[120:130], 0), (np.s_[200:, 180:], 0)), TEMPLATE: ((np.s_[:, 60:69], -99),)}
    for data_id, fwhm in ((SCIENCE, 4.2), (TEMPLATE, 3.4)):
        one = smallrepository.exposure(data_id.visit, "r", fwhm)
        one.image[:] += np.random.default_rng(data_id.visit).normal(0, 1, one.shape)
        for place, value in gaps[data_id]:
            one.image[place] = value
        write_exposure(repository / relative("calexp", data_id), one)
        write_background(repository / relative("calexpBackground", data_id), Background((layer,)))
    words = ["--id", "visit=1", "--templateId", "visit=2", "--output", tmp_path / "out"]
    words += ["--configfile", RECIPE]
    assert program.main([str(word) for word in (repository, *words)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "blocks of one value" in line]
    assert [line.rpartition(": ")[0].rpartition(": ")[2] for line in lines] == [
        "2304 pixels of visit 2 are blocks of one value",
        "6816 pixels of visit 1 are blocks of one value",
    ]
    products = {
        name: tmp_path / "out" / relative(f"deepDiff_{name}", SCIENCE)
        for name in ("differenceExp", "diaSrc", "kernel")
    }
    difference, sources = read_exposure(products["differenceExp"]), read_catalog(products["diaSrc"])
    missing = difference.has("NO_DATA")
    assert missing[120:130].all() and missing[200:, 180:].all() and missing[:, 60:69].all()
    assert missing.mean() < 0.25
    half = read_kernel(products["kernel"]).components.shape[-1] // 2
    flagged = np.logical_or.reduce([sources[f"base_PixelFlags_flag_{name}"] for name in FLAGS])
    row, column = (np.rint(sources[f"slot_Centroid_{axis}"]).astype(int) - first
                   for axis, first in zip("yx", smallrepository.XY0[::-1], strict=True))  # fmt: skip
    assert not (masks.grown(missing, half)[row, column] & ~flagged).any()
    assert (~flagged).sum() <= 1


@pytest.mark.parametrize(
    "place", [np.s_[50:57, 61:68], np.s_[:7, :], np.s_[196:, 294:], np.s_[:, 299:], np.s_[0:0]]
)
@pytest.mark.parametrize("value", [0.0, -9999.0, 3.25])
def test_a_block_is_found_to_its_edges(place, value):
    one = blank()
    one.image[place] = value
    wanted = one.image == np.float32(value)
    if one.image[place].size and min(one.image[place].shape) < 7:
        wanted[:] = False  # too thin to be one
    found, number = marked(one)
    assert np.array_equal(found.has("NO_DATA"), wanted)
    assert number == wanted.sum()


def test_what_is_known_already_is_left_and_not_counted():
    one = blank()
    one.image[40:80, 40:80] = 0
    one.mask[40:80, 40:80] = one.bits("NO_DATA")
    one.image[100:140, 40:80] = 60000
    one.mask[100:140, 40:80] = one.bits("SAT")
    one.image[100:140, 140:180] = 60000  # cut off, and no mask says so: light, all the same
    before = one.mask.copy()
    found, number = marked(one)
    assert number == 0 and np.array_equal(found.mask, before)


def test_an_image_without_noise_is_no_block():
    """A simulated template: stars on a sky of one value."""
    y, x = np.mgrid[:203, :301]
    image = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 8) for a, b in ((60, 50), (200, 120), (90, 150)))
    one = blank().replace(image=np.where(image > 1e-6, 1e4 * image, 0).astype(np.float32))
    assert marked(one)[1] == 0
    assert marked(one.replace(image=np.zeros_like(one.image)))[1] == 0


@pytest.mark.parametrize("mean", [4.0, 1.0, 0.3])
def test_counts_of_little_noise_are_no_blocks(mean):
    image = np.random.default_rng(3).poisson(mean, (1500, 1500)).astype(np.float32) - np.float32(mean)
    one = Exposure(image, np.zeros(image.shape, np.int32), np.full(image.shape, mean, np.float32), None)
    assert marked(one)[1] == 0


def test_a_whole_sensor_without_blocks_takes_no_time():
    one = blank((4000, 4072))
    took = []
    for _ in range(5):
        start = time.perf_counter()
        assert marked(one)[1] == 0
        took.append(time.perf_counter() - start)
    assert min(took) < 0.03
