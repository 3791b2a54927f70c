# SPDX-License-Identifier: BSD-3-Clause
"""What is judged: a difference image with its claims and its sources, whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.reader import read_exposure, read_kernel

Array = NDArray[np.float64]

#: Planes of a pixel on which nobody would build a discovery.
SPOILT = ("NO_DATA", "EDGE", "BAD", "SAT", "SAT_TEMPLATE", "CR", "INTRP", "SUSPECT")
#: Flags of a source by which an astronomer leaves it out.
CUT = tuple(
    f"base_PixelFlags_flag_{name}"
    for name in (
        "offimage", "edge", "bad", "saturated", "saturatedCenter", "saturated_template",
        "saturated_templateCenter", "interpolatedCenter", "crCenter", "suspect", "suspectCenter",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What a program says it found: (n,) arrays in science pixels and counts of the science visit.

    ``flux`` and ``error`` are NaN where the program gives none; ``aperture`` is the flux within 9 pixels.
    """

    x: Array
    y: Array
    flux: Array
    error: Array
    flagged: NDArray[np.bool_]
    aperture: Array


@dataclass(frozen=True)
class Subject:
    """A difference on the pixels of the science visit.

    Attributes
    ----------
    image, variance : `numpy.ndarray`, (ny, nx), float32
    spoilt : `numpy.ndarray`, (ny, nx), bool
        Pixels that are flagged or have no value.
    psf : callable
        (x, y) -> the PSF of the difference there, on an odd stamp with sum 1.
    wide : `bool`
        Whether a flux is the light on the stamp of the wider PSF of the two; else on that of the science
        PSF, to which the science visit's zero point belongs.
    kernel_sum : `float`
        Counts of the science visit for one of the template, NaN where not known.
    threshold : `float`
        In standard deviations, of detection.
    """

    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    spoilt: NDArray[np.bool_]
    psf: Callable[[float, float], Array]
    sources: Sources
    wide: bool = True
    kernel_sum: float = float("nan")
    threshold: float = 5.0


@dataclass(frozen=True)
class Truth:
    """The tables of a simulated repository."""

    change: Table
    static: Table
    fwhm: tuple[float, float]
    kernel_sum: float


def read_truth(repository: Path) -> Truth:
    """``truth.ecsv`` and ``static.ecsv``."""
    change = Table.read(repository / "truth.ecsv", format="ascii.ecsv")
    static = Table.read(repository / "static.ecsv", format="ascii.ecsv")
    return Truth(change, static, tuple(change.meta["fwhm"]), float(change.meta["kernel_sum"]))


def read_output(output: Path) -> Subject:
    """The one difference below the output folder of ``imageDifference.py`` or ``diffrun``."""
    found = sorted(output.rglob("diffexp-*.fits"))
    if len(found) != 1:
        raise SystemExit(f"{output} holds {len(found)} differences, one is needed")
    folder, name = found[0].parent, found[0].name
    difference = read_exposure(found[0])
    kernel = read_kernel(folder / name.replace("diffexp", "kernel"))
    sources = read_catalog(folder / name.replace("diffexp", "diaSrc"))
    spoilt = difference.has(*SPOILT) | ~np.isfinite(difference.image) | ~(difference.variance > 0)
    return Subject(
        difference.image, difference.variance, spoilt, difference.psf.kernel_image,
        _sources(sources, difference), False, _kernel_sum(kernel),
    )  # fmt: skip


def _kernel_sum(kernel: LinearCombinationKernel) -> float:
    box = kernel.box
    return float(kernel.at((box[0] + box[2]) / 2, (box[1] + box[3]) / 2).sum())


def _sources(catalog: Catalog, difference: Exposure) -> Sources:
    flux, error = (np.asarray(a, float) for a in catalog.flux("slot_PsfFlux"))
    aperture = np.asarray(catalog.flux("base_CircularApertureFlux_9_0")[0], float)
    x, y = (np.asarray(catalog[f"slot_Centroid_{k}"], float) for k in "xy")
    flagged = np.zeros(len(catalog), bool)
    for name in CUT:
        if name in catalog:
            flagged |= np.asarray(catalog[name], bool)
    return Sources(x - difference.xy0[0], y - difference.xy0[1], flux, error, flagged, aperture)
