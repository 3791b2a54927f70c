# SPDX-License-Identifier: BSD-3-Clause
"""A Gen2 repository of three small visits with known stars, made in a fraction of a second."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scenes import Profile

from diffrun.files.afw.background import Background, Layer, write_background
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.psf import KernelPsf
from diffrun.files.afw.wcs import TanSipWcs
from diffrun.files.afw.writer import write_exposure
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

SIZE = 256
SKY = 800.0
XY0 = (1000, 2000)
STARS = 40
#: Visit, filter and FWHM (pixels).
VISITS = ((1, "r", 4.2), (2, "r", 3.4), (3, "g", 3.5))
SCALE = 0.2 / 3600


def stars(fwhm: float) -> NDArray[np.float64]:
    """The sky and the same stars in each visit, counts."""
    random = np.random.default_rng(1)
    image = np.full((SIZE, SIZE), SKY)
    profile = Profile(fwhm, np.inf)
    places = random.uniform(25, SIZE - 26, (STARS, 2))
    for (x, y), flux in zip(places, 10 ** random.uniform(3.6, 5.0, STARS), strict=True):
        i, j = round(y), round(x)
        image[i - 20 : i + 21, j - 20 : j + 21] += flux * profile.stamp(x - j, y - i)
    return image


def exposure(visit: int, name: str, fwhm: float) -> Exposure:
    """A sky-subtracted calexp."""
    image = np.random.default_rng(visit).poisson(stars(fwhm)).astype(np.float32)
    profile = Profile(fwhm, np.inf)
    box = (XY0[0] - 0.5, XY0[1] - 0.5, XY0[0] + SIZE - 0.5, XY0[1] + SIZE - 0.5)
    centre = (XY0[0] + SIZE / 2, XY0[1] + SIZE / 2)
    kernel = LinearCombinationKernel(profile.stamp(0.0, 0.0)[None], np.ones((1, 1)), box)
    return Exposure(
        image - np.float32(SKY),
        np.zeros(image.shape, np.int32),
        image.copy(),
        TanSipWcs((53.009, -27.439), centre, np.diag([-SCALE, SCALE])),
        KernelPsf(kernel, centre),
        XY0,
        filter=name,
        flux_mag0=1e12,
    )


def make(root: Path) -> Path:
    """Write the repository; its visits have no ``src``."""
    root.mkdir(parents=True)
    (root / "_mapper").write_text("lsst.obs.lsstSim.LsstSimMapper\n")
    registry = sqlite3.connect(root / "registry.sqlite3")
    registry.execute(
        "create table raw (id integer primary key, visit int, filter text, raft text, sensor text)"
    )
    for visit, name, fwhm in VISITS:
        data_id = DataId(visit, name, "2,2", "1,1")
        registry.execute(
            "insert into raw (visit, filter, raft, sensor) values (?, ?, '2,2', '1,1')", (visit, name)
        )
        write_exposure(root / relative("calexp", data_id), exposure(visit, name, fwhm))
        level = np.full((2, 2), SKY, np.float32)
        layer = Layer(level, level, (*XY0, SIZE, SIZE), "LINEAR")
        write_background(root / relative("calexpBackground", data_id), Background((layer,)))
    registry.commit()
    registry.close()
    return root
