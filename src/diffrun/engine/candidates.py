# SPDX-License-Identifier: BSD-3-Clause
"""Kernel candidates: the stars that tell how one image is turned into the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.detect import detect, significance
from diffrun.errors import NoStarsError
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import KernelPsf

Array = NDArray[np.float64]

#: Pixels with these planes are not used in a fit; a candidate with one near its centre is no candidate.
UNUSABLE_PLANES = ("NO_DATA", "SAT", "SAT_TEMPLATE", "BAD", "CR", "INTRP", "EDGE")
_BAD_FLAGS = (
    "base_PixelFlags_flag_edge",
    "base_PixelFlags_flag_bad",
    "base_PixelFlags_flag_saturated",
    "base_PixelFlags_flag_saturatedCenter",
    "base_PixelFlags_flag_interpolatedCenter",
    "base_PixelFlags_flag_crCenter",
    "slot_Centroid_flag",
    "slot_PsfFlux_flag",
)


@dataclass(frozen=True)
class Candidates:
    """Kernel candidates in parent pixels of the science image.

    Attributes
    ----------
    x, y : `numpy.ndarray`, (n,), float64
        Positions.
    snr : `numpy.ndarray`, (n,), float64
        PSF flux over its error in the science image.
    rejected : `dict` [`str`, `int`]
        How many sources were left out, by cause.
    """

    x: Array
    y: Array
    snr: Array
    rejected: dict[str, int]

    def __len__(self) -> int:
        return len(self.x)

    def keep(self, good: NDArray[np.bool_], cause: str) -> Candidates:
        """The candidates for which ``good`` holds; the others are counted under ``cause``."""
        left_out = int(np.count_nonzero(~good))
        rejected = (
            {**self.rejected, cause: self.rejected.get(cause, 0) + left_out} if left_out else self.rejected
        )
        return Candidates(self.x[good], self.y[good], self.snr[good], rejected)


def from_sources(sources: Catalog, minimum_snr: float) -> Candidates:
    """Stars of a ``src`` table with S/N over a limit; all its sources when it tells no stars."""
    x, y = np.asarray(sources["slot_Centroid_x"], float), np.asarray(sources["slot_Centroid_y"], float)
    flux, error = sources.flux("slot_PsfFlux")
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(error > 0, flux / error, 0.0)
    keep, rejected = np.ones(len(x), bool), {}
    for cause, good in (
        ("no position or flux", np.isfinite(x) & np.isfinite(y) & np.isfinite(snr)),
        ("flagged in src", ~_flagged(sources)),
        ("faint", snr >= minimum_snr),
        ("extended", ~_extended(sources)),
    ):
        if cause == "extended" and not (keep & good).any():
            break
        if (keep & ~good).any():
            rejected[cause] = int(np.count_nonzero(keep & ~good))
        keep &= good
    return Candidates(x[keep], y[keep], snr[keep], rejected)


def _flagged(sources: Catalog) -> NDArray[np.bool_]:
    """Sources with a flag that spoils them, and parents of a blend."""
    flagged = np.zeros(len(sources), bool)
    for name in _BAD_FLAGS:
        if name in sources:
            flagged |= np.asarray(sources[name], bool)
    if "deblend_nChild" in sources:
        flagged |= np.asarray(sources["deblend_nChild"]) > 0
    return flagged


def _extended(sources: Catalog) -> NDArray[np.bool_]:
    """Sources that are not known to be points, where the table tells."""
    name = "base_ClassificationExtendedness_value"
    if name not in sources:
        return np.zeros(len(sources), bool)
    return np.asarray(~(np.asarray(sources[name], float) < 0.5))


def from_image(exposure: Exposure, psf: KernelPsf, threshold: float) -> Candidates:
    """Sources detected on an image with its PSF, where there is no ``src`` table."""
    footprints, _, _ = detect(significance(exposure, psf), exposure.xy0, threshold, 0, None, "positive")
    peaks = [(f.peaks_x[f.main_peak], f.peaks_y[f.main_peak], f.peaks_snr[f.main_peak]) for f in footprints]
    x, y, snr = np.array(peaks, float).reshape(-1, 3).T
    return Candidates(x, y, snr, {})


def with_clean_cores(
    candidates: Candidates, images: Sequence[Exposure], core: float, border: int
) -> Candidates:
    """Drop candidates near a border, or with an unusable pixel within ``core`` pixels of the centre."""
    reach = int(np.ceil(core))
    offset_y, offset_x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.hypot(offset_x, offset_y) <= core
    for exposure in images:
        column, row = candidates.x - exposure.xy0[0], candidates.y - exposure.xy0[1]
        ny, nx = exposure.shape
        inside = (column >= border) & (row >= border) & (column < nx - border) & (row < ny - border)
        candidates = candidates.keep(inside, "near the border")
        rows = np.rint(candidates.y - exposure.xy0[1]).astype(int)[:, None] + offset_y[disc][None, :]
        columns = np.rint(candidates.x - exposure.xy0[0]).astype(int)[:, None] + offset_x[disc][None, :]
        bad = exposure.has(*UNUSABLE_PLANES)
        candidates = candidates.keep(~bad[rows, columns].any(axis=1), "unusable pixels")
    return candidates


def constant(
    candidates: Candidates, science: Exposure, template: Exposure, radius: float, tolerance: float = 0.03
) -> Candidates:
    """Keep the candidates whose flux ratio science / template is the common one.

    Variable stars drag the kernel sum, and with it every flux. The common ratio is the half-sample mode of
    all (Robertson and Cryer 1974, JASA 69, 1012); a star keeps to it within 3 sigma or ``tolerance``.
    """
    if len(candidates) < 5:
        return candidates
    s, s_var = aperture_fluxes(science, candidates, radius)
    t, t_var = aperture_fluxes(template, candidates, radius)
    usable = (s > 0) & (t > 0)
    candidates = candidates.keep(usable, "no flux in one image")
    s, s_var, t, t_var = s[usable], s_var[usable], t[usable], t_var[usable]
    ratio = s / t
    error = ratio * np.sqrt(s_var / s**2 + t_var / t**2)
    common = half_sample_mode(ratio)
    good = np.abs(ratio - common) < np.maximum(3 * error, tolerance * common)
    return candidates.keep(good, "variable")


def half_sample_mode(values: Array) -> float:
    """The mode as the middle of the densest halves, taken again and again."""
    sample = np.sort(values)
    while len(sample) > 3:
        half = (len(sample) + 1) // 2
        widths = sample[half - 1 :] - sample[: len(sample) - half + 1]
        start = int(np.argmin(widths))
        sample = sample[start : start + half]
    if len(sample) == 3:
        low, high = sample[1] - sample[0], sample[2] - sample[1]
        return float(sample[:2].mean() if low < high else sample[1:].mean() if high < low else sample[1])
    return float(sample.mean())


def aperture_fluxes(exposure: Exposure, candidates: Candidates, radius: float) -> tuple[Array, Array]:
    """Flux and variance within ``radius``, above the median of the ring from 2 to 3 radii; (n,) each."""
    reach = int(np.ceil(3 * radius))
    padded = np.pad(exposure.image, reach, mode="edge")
    noise = np.pad(exposure.variance, reach, mode="edge")
    rows = np.rint(candidates.y - exposure.xy0[1]).astype(int) + reach
    columns = np.rint(candidates.x - exposure.xy0[0]).astype(int) + reach
    offset_y, offset_x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(offset_x, offset_y)
    core, ring = distance <= radius, (distance > 2 * radius) & (distance <= 3 * radius)
    flux, variance = np.empty(len(rows)), np.empty(len(rows))
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        window = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
        sky = np.median(padded[window][ring])
        flux[i] = (padded[window][core].astype(float) - sky).sum()
        variance[i] = noise[window][core].sum(dtype=float)
    return flux, variance


def spread(candidates: Candidates, exposure: Exposure, cell_x: int, cell_y: int, per_cell: int) -> Candidates:
    """The brightest ``per_cell`` candidates of every cell of the image, brightest first in each."""
    column = ((candidates.x - exposure.xy0[0]) // cell_x).astype(int)
    row = ((candidates.y - exposure.xy0[1]) // cell_y).astype(int)
    chosen = np.zeros(len(candidates), bool)
    taken: dict[tuple[int, int], int] = {}
    for i in np.lexsort((candidates.x, candidates.y, -candidates.snr)):
        cell = (int(row[i]), int(column[i]))
        if per_cell < 0 or taken.get(cell, 0) < per_cell:
            chosen[i] = True
            taken[cell] = taken.get(cell, 0) + 1
    return candidates.keep(chosen, "more than a cell takes")


def require(candidates: Candidates, needed: int, where: str) -> None:
    """Raise `NoStarsError` with what was rejected by cause, when fewer than ``needed`` are left."""
    if len(candidates) >= needed:
        return
    causes = (
        ", ".join(f"{count} {cause}" for cause, count in candidates.rejected.items()) or "no sources at all"
    )
    raise NoStarsError(
        f"{len(candidates)} kernel candidates {where}, {needed} needed ({causes})",
        "choose a pair with more common stars, or lower subtract.kernel['AL'].detectionConfig.detThreshold",
    )
