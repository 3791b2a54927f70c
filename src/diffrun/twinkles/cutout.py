# SPDX-License-Identifier: BSD-3-Clause
"""Two 256-pixel cutouts of the subset, to try a program: ``python -m diffrun.twinkles.cutout ROOT [CACHE]``.

They come without the background models: a program is to be told not to add them back.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from diffrun.files.afw.catalog import Catalog, read_catalog, write_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure
from diffrun.files.afw.writer import write_exposure
from diffrun.twinkles import unpack

SCIENCE, TEMPLATE = "v230-fr", "v195529-fr"

_SIZE = 256
_FIRST = (384, 384)  # x, y of the lower left pixel in the cutout that the subset is


def write(root: Path, cache: Path | None = None) -> None:
    """Write a Gen2 repository with visits 230 and 195529, from the subset in ``cache``."""
    subset = unpack(cache)
    root.mkdir(parents=True)
    for name in ("_mapper", "registry.sqlite3"):
        shutil.copyfile(subset / name, root / name)
    for visit in (SCIENCE, TEMPLATE):
        calexp, src = (Path(kind, visit, "R22/S11.fits") for kind in ("calexp", "src"))
        for path in (calexp, src):
            (root / path).parent.mkdir(parents=True)
        exposure = _cut(read_exposure(subset / calexp))
        write_exposure(root / calexp, exposure)
        write_catalog(root / src, _within(read_catalog(subset / src), exposure))


def _cut(exposure: Exposure) -> Exposure:
    x, y = _FIRST
    part = (slice(y, y + _SIZE), slice(x, x + _SIZE))
    x0, y0 = exposure.xy0
    return replace(
        exposure,
        image=exposure.image[part].copy(),
        mask=exposure.mask[part].copy(),
        variance=exposure.variance[part].copy(),
        xy0=(x0 + x, y0 + y),
    )


def _within(sources: Catalog, exposure: Exposure) -> Catalog:
    """The sources whose centre lies in the cutout."""
    x, y = (sources[f"slot_Centroid_{axis}"] for axis in "xy")
    (x0, y0), (ny, nx) = exposure.xy0, exposure.image.shape
    kept = (x >= x0) & (x < x0 + nx) & (y >= y0) & (y < y0 + ny)
    return replace(sources, columns={name: column[kept] for name, column in sources.columns.items()})


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
