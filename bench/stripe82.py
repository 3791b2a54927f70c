# SPDX-License-Identifier: BSD-3-Clause
"""A real pair: two frames of SDSS Stripe 82 in r, made calexps by the LSST stack, with planted sources.

The data are no part of this repository: a folder ``stripe82_repo`` in the one that DIFFRUN_SHARED_DATA
names, or in shared/data beside the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import engine
import numpy as np
from astropy.table import Table
from subject import SPOILT

from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.reader import read_exposure, read_kernel
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative

SCIENCE, PLANTED, TEMPLATE = 4192, 14192, 6377
#: Counts of 4192 for one of 6377, of stars in apertures of 12 pixels.
RATIO = 1.0217
#: What ip_diffim of July 2026 makes of the same files, by the same definitions.
STACK = {
    "noise": 0.994, "lag1_x": 0.0072, "lag1_y": 0.0114, "star_chi2": 1.172, "kernel_sum": 1.0255, "clean": 11,
    "found": 39, "flux": 0.0158,
}  # fmt: skip
UNUSED = (*SPOILT, "DETECTED", "DETECTED_NEGATIVE")
DISC = 6  # pixels


def measure(folder: Path) -> dict[str, Any]:
    """Noise, residuals at stars and sources of the pair, and what is found of the planted.

    Where the data are absent, ``skipped`` says so.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("DIFFRUN_SHARED_DATA", beside)) / "stripe82_repo"
    if not data.is_dir():
        return {"skipped": "the frames are absent: name the folder of stripe82_repo by DIFFRUN_SHARED_DATA"}
    numbers: dict[str, float] = {}
    for visit in (SCIENCE, PLANTED):
        output = folder / f"{visit}"
        engine.subtract(data, output, visits=str(visit), template=TEMPLATE)
        sources = read_catalog(output / relative("deepDiff_diaSrc", _id(visit)))
        if visit == PLANTED:
            return numbers | planted(sources, data)
        difference = read_exposure(output / relative("deepDiff_differenceExp", _id(visit)))
        kernel = read_kernel(output / relative("deepDiff_kernel", _id(visit)))
        numbers = noise(difference)
        numbers["star_chi2"] = at_stars(difference, read_catalog(data / relative("src", _id(visit))))
        numbers["kernel_sum"] = float(kernel.at(1050, 750).sum())
        numbers["clean"] = float(clean(sources))
    return numbers


def _id(visit: int) -> DataId:
    return DataId(visit, "r", "2,2", "1,1")


def noise(difference: Exposure) -> dict[str, float]:
    """Half of the 16 to 84 % range of D / sqrt(V) off all that is detected, and neighbours' correlation."""
    use = ~difference.has(*UNUSED) & (difference.variance > 0)
    z = np.where(use, difference.image / np.sqrt(np.where(use, difference.variance, 1)), 0)
    low, high = np.percentile(z[use], [16, 84])
    numbers = {"noise": float(high - low) / 2}
    for name, a, b in (
        ("lag1_x", np.s_[:, 1:], np.s_[:, :-1]),
        ("lag1_y", np.s_[1:], np.s_[:-1]),
    ):
        both = use[a] & use[b]
        numbers[name] = float(np.corrcoef(z[a][both], z[b][both])[0, 1])
    return numbers


def at_stars(difference: Exposure, src: Catalog) -> float:
    """Median over isolated stars of S/N 10 to 500 of the mean of D^2 / V within `DISC`."""
    flux, error = src.flux("slot_PsfFlux")
    x, y = (
        np.asarray(src[f"slot_Centroid_{axis}"], float) - difference.xy0[k] for k, axis in enumerate("xy")
    )
    star = (flux > 10 * error) & (flux < 500 * error) & np.asarray(src["detect_isPrimary"])
    star &= np.asarray(src["base_ClassificationExtendedness_value"]) < 0.5
    rows, columns = np.mgrid[-DISC : DISC + 1, -DISC : DISC + 1]
    disc = np.hypot(rows, columns) <= DISC
    unusable = difference.has("SAT", "SAT_TEMPLATE", "BAD", "NO_DATA", "EDGE")
    ny, nx = difference.shape
    values = []
    for column, row in zip(np.rint(x[star]).astype(int), np.rint(y[star]).astype(int), strict=True):
        box = np.s_[row - DISC : row + DISC + 1, column - DISC : column + DISC + 1]
        alone = np.sort(np.hypot(x - column, y - row))[1] > 2 * DISC
        inside = 25 < column < nx - 25 and 25 < row < ny - 25
        if inside and alone and not unusable[box][disc].any():
            values.append((difference.image[box] ** 2 / difference.variance[box])[disc].mean())
    return float(np.median(values))


def clean(sources: Catalog) -> int:
    """Sources that are no dipole and touch no defect."""
    good = ~np.asarray(sources["ip_diffim_DipoleFit_flag_classification"], bool)
    for defect in ("edge", "saturated", "interpolated"):
        good &= ~np.asarray(sources[f"base_PixelFlags_flag_{defect}"], bool)
    return int(good.sum())


def planted(sources: Catalog, data: Path) -> dict[str, float]:
    """Sources within 2 pixels of the planted ones, and the bias of their fluxes."""
    truth = Table.read(data / "fakes.ecsv", format="ascii.ecsv")
    x, y = (np.asarray(sources[f"slot_Centroid_{axis}"], float) for axis in "xy")
    distance = np.hypot(x[:, None] - truth["x"], y[:, None] - truth["y"])
    found = distance.min(axis=0) < 2
    flux, error = (column[distance.argmin(axis=0)[found]] for column in sources.flux("slot_PsfFlux"))
    added = np.asarray(truth["counts_added"])[found]
    weight = (added / error) ** 2
    return {
        "found": float(found.sum()),
        "planted": float(len(truth)),
        "flux": float((weight * flux / added).sum() / weight.sum() - 1),
        "flux_error": float((added**2 / error**2).sum() ** -0.5),
    }
