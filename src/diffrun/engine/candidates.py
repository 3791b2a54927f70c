# SPDX-License-Identifier: BSD-3-Clause
"""Kernel candidates: the stars that tell how one image is turned into the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine.robust import PolynomialFit
from diffrun.engine.smoothpsf import FWHM_PER_SIGMA
from diffrun.errors import NoStarsError
from diffrun.files.afw.catalog import Catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import chebyshev_terms

Array = NDArray[np.float64]

#: Pixels with these planes are not used in a fit; a candidate with one near its centre is no candidate.
UNUSABLE_PLANES = ("NO_DATA", "SAT", "SAT_TEMPLATE", "BAD", "CR", "INTRP", "EDGE")
#: Part of the wanted S/N that a box must show, boxes along a cell of the local level, most sources looked at.
_BOX_SNR, _LEVEL_CELL, _MOST_FOUND = 0.6, 16, 5000
#: Rounds in which a source is centred.
_CENTRINGS = 3
#: Relative scatter of the flux ratio beyond its error, and how its variation over the field is fitted.
_RATIO_SCATTER, _RATIO_FIT = 0.01, PolynomialFit(2, 6, (0.15, 0.10, 0.06, 0.04, 0.04), 9.0)
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


def lacking(sources: Catalog) -> list[str]:
    """What a ``src`` table would have to have for `from_sources`, and has not."""
    found = [name for name in ("slot_Centroid_x", "slot_Centroid_y") if name not in sources]
    try:
        sources.flux("slot_PsfFlux")
    except KeyError:
        found.append("slot_PsfFlux")
    return found


def from_sources(sources: Catalog, minimum_snr: float) -> Candidates:
    """Stars of a ``src`` table with S/N over a limit; all its sources when it tells no stars."""
    x, y = np.asarray(sources["slot_Centroid_x"], float), np.asarray(sources["slot_Centroid_y"], float)
    keep, snr, rejected = chosen(sources, minimum_snr)
    return Candidates(x[keep], y[keep], snr[keep], rejected)


def chosen(sources: Catalog, minimum_snr: float) -> tuple[NDArray[np.bool_], Array, dict[str, int]]:
    """The rows that `from_sources` takes, the S/N of all, and how many are left out by cause."""
    x, y = np.asarray(sources["slot_Centroid_x"], float), np.asarray(sources["slot_Centroid_y"], float)
    flux, error = sources.flux("slot_PsfFlux")
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(error > 0, flux / error, 0.0)
    keep, rejected = np.ones(len(x), bool), dict[str, int]()
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
    return keep, snr, rejected


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


def from_image(exposure: Exposure, fwhm: float, minimum_snr: float) -> Candidates:
    """Bright sources of an image, where there is no ``src`` table.

    Only stars well over the noise are wanted, so sums over boxes of a FWHM, half of one apart, find them:
    three quarters of the S/N of a matched filter for a fiftieth of its work. A Gaussian of that FWHM then
    gives the centre and the S/N.

    Parameters
    ----------
    exposure : `Exposure`
        With its sky near 0, finite everywhere.
    fwhm : `float`
        Of its PSF, pixels.
    minimum_snr : `float`
    """
    step = max(round(fwhm / 2), 1)
    boxes = _boxes(exposure.image, step)
    variance = exposure.variance[step::step, step::step][: boxes.shape[0], : boxes.shape[1]]
    level = _local_level(boxes)
    snr = (boxes - level) / (2 * step * np.sqrt(variance))
    rows, columns = _maxima(snr, _BOX_SNR * minimum_snr)
    brightest = np.argsort(-snr[rows, columns], kind="stable")[:_MOST_FOUND]
    rows, columns = rows[brightest], columns[brightest]
    column, row = ((i.astype(float) + 1) * step - 0.5 for i in (columns, rows))
    column, row, snr = centred(exposure, column, row, level[rows, columns] / (2 * step) ** 2, fwhm)
    found = Candidates(column + exposure.xy0[0], row + exposure.xy0[1], snr, {})
    return _distinct(found.keep(snr >= minimum_snr, "faint"), fwhm)


def _boxes(plane: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Sums over boxes of side ``2 step``, one every ``step`` pixels."""
    ny, nx = (step * (n // step) for n in plane.shape)
    rows = plane[:ny:step].copy()
    for i in range(1, step):
        rows += plane[i:ny:step]
    blocks = rows[:, :nx:step].copy()
    for i in range(1, step):
        blocks += rows[:, i:nx:step]
    return np.asarray(blocks[:-1, :-1] + blocks[1:, :-1] + blocks[:-1, 1:] + blocks[1:, 1:])


def _local_level(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of the boxes in cells, (ny, nx): the sky, which need not be flat."""
    ny, nx = (max(n // _LEVEL_CELL, 1) for n in boxes.shape)
    rows, columns = (np.arange(n) * m // n for n, m in zip(boxes.shape, (ny, nx), strict=True))
    level = np.empty((ny, nx), np.float32)
    for j in range(ny):
        band = boxes[rows == j]
        for i in range(nx):
            level[j, i] = np.median(band[:, columns == i])
    return np.asarray(level[rows[:, None], columns[None, :]])


def _maxima(snr: NDArray[Any], threshold: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the values over a threshold that no neighbour exceeds, border left out."""
    rows, columns = np.nonzero(snr[1:-1, 1:-1] >= threshold)
    rows, columns = rows + 1, columns + 1
    highest = np.ones(len(rows), bool)
    for down, right in ((j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)):
        highest &= snr[rows, columns] >= snr[rows + down, columns + right]
    return rows[highest], columns[highest]


def centred(
    exposure: Exposure, column: Array, row: Array, sky: NDArray[Any], fwhm: float
) -> tuple[Array, Array, Array]:
    """Columns, rows and S/N of sources on a known sky, with a Gaussian weight, (n,) each."""
    reach = int(np.ceil(fwhm))
    sigma2 = (fwhm / FWHM_PER_SIGMA) ** 2
    for _ in range(_CENTRINGS):
        image = _windows(exposure.image, column, row, reach) - sky[:, None]
        dx, dy = _distances(column, row, reach)
        weight = np.exp(-0.5 * (dx**2 + dy**2) / sigma2)
        power = (weight * image).sum(axis=1)
        moments = ((weight * image * d).sum(axis=1) for d in (dx, dy))
        with np.errstate(invalid="ignore", divide="ignore"):
            right, down = (np.where(power > 0, 2 * moment / power, 0.0) for moment in moments)
        step = np.minimum(1.0, fwhm / 2 / np.maximum(np.hypot(right, down), 1e-9))
        column, row = column + step * right, row + step * down
    variance = _windows(exposure.variance, column, row, reach)
    return column, row, power / np.sqrt((weight**2 * variance).sum(axis=1))


def _distinct(candidates: Candidates, distance: float) -> Candidates:
    """Of sources nearer than a distance the brighter one."""
    from scipy.spatial import cKDTree  # only where needed: the survey has no use for it

    tree = cKDTree(np.stack([candidates.x, candidates.y], axis=1))
    pairs = tree.query_pairs(distance, output_type="ndarray")
    first_is_fainter = candidates.snr[pairs[:, 0]] < candidates.snr[pairs[:, 1]]
    single = np.ones(len(candidates), bool)
    single[np.where(first_is_fainter, pairs[:, 0], pairs[:, 1])] = False
    return candidates.keep(single, "twice found")


def _windows(plane: NDArray[Any], column: Array, row: Array, reach: int) -> NDArray[Any]:
    """Square windows about positions, (n, pixels); beyond its border a plane goes on as it ends."""
    offset = np.arange(-reach, reach + 1)
    rows = np.clip(np.rint(row).astype(np.intp)[:, None] + offset, 0, plane.shape[0] - 1)
    columns = np.clip(np.rint(column).astype(np.intp)[:, None] + offset, 0, plane.shape[1] - 1)
    return np.asarray(plane[rows[:, :, None], columns[:, None, :]].reshape(len(rows), len(offset) ** 2))


def _distances(column: Array, row: Array, reach: int) -> tuple[Array, Array]:
    """How far the pixels of such windows lie from the positions in x and y, (n, pixels) each."""
    offset_y, offset_x = (o.ravel() for o in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return offset_x + (np.rint(column) - column)[:, None], offset_y + (np.rint(row) - row)[:, None]


def with_clean_cores(
    candidates: Candidates, images: Sequence[Exposure], core: float, border: int
) -> Candidates:
    """Drop candidates near a border, or with an unusable pixel within ``core`` pixels of the centre."""
    reach = int(np.ceil(core))
    offset_y, offset_x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.hypot(offset_x, offset_y).ravel() <= core
    for exposure in images:
        column, row = candidates.x - exposure.xy0[0], candidates.y - exposure.xy0[1]
        ny, nx = exposure.shape
        inside = (column >= border) & (row >= border) & (column < nx - border) & (row < ny - border)
        candidates = candidates.keep(inside, "near the border")
        mask = _windows(exposure.mask, column[inside], row[inside], reach)
        bad = (mask[:, disc] & np.int32(exposure.bits(*UNUSABLE_PLANES))) != 0
        candidates = candidates.keep(~bad.any(axis=1), "unusable pixels")
    return candidates


def constant(
    candidates: Candidates, science: Exposure, template: Exposure, radius: float, tolerance: float = 0.03
) -> Candidates:
    """Keep the candidates whose flux ratio science / template is the common one at their place.

    Variable stars drag the kernel sum, and with it every flux. A star keeps to the common ratio within 3
    sigma or ``tolerance``.
    """
    if len(candidates) < 5:
        return candidates
    s, s_var = aperture_fluxes(science, candidates, radius)
    t, t_var = aperture_fluxes(template, candidates, radius)
    usable = (s > 0) & (t > 0)
    candidates = candidates.keep(usable, "no flux in one image")
    if not len(candidates):
        return candidates
    s, s_var, t, t_var = s[usable], s_var[usable], t[usable], t_var[usable]
    ratio = s / t
    error = ratio * np.sqrt(s_var / s**2 + t_var / t**2)
    common = common_ratio(candidates.x, candidates.y, ratio, error)
    good = np.abs(ratio - common) < np.maximum(3 * error, tolerance * common)
    return candidates.keep(good, "variable")


def common_ratio(x: Array, y: Array, ratio: Array, error: Array) -> Array:
    """The flux ratio that most stars share, at the place of each, (n,).

    The half-sample mode (Robertson and Cryer 1974, JASA 69, 1012) of all, then a polynomial of the position
    through what is near it, as thin clouds and flat fields ask for.
    """
    mode = half_sample_mode(ratio)
    value = ratio / mode - 1
    sigma = np.hypot(error / mode, _RATIO_SCATTER)
    box = (float(x.min()), float(y.min()), float(x.max()) + 1, float(y.max()) + 1)
    fitted, order = _RATIO_FIT.through(x, y, value[:, None], sigma, box, np.zeros(1))
    return np.asarray(mode * (1 + chebyshev_terms(x, y, order, box) @ fitted[:, 0]))


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
    column, row = candidates.x - exposure.xy0[0], candidates.y - exposure.xy0[1]
    reach = int(np.ceil(3 * radius))
    offset_y, offset_x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(offset_x, offset_y).ravel()
    core, ring = distance <= radius, (distance > 2 * radius) & (distance <= 3 * radius)
    image = _windows(exposure.image, column, row, reach)
    sky = np.median(image[:, ring], axis=1)
    flux = image[:, core].sum(axis=1, dtype=float) - core.sum() * sky
    variance = _windows(exposure.variance, column, row, reach)[:, core]
    return flux, variance.sum(axis=1, dtype=float)


def spread(
    candidates: Candidates, exposure: Exposure, cell_x: float, cell_y: float, per_cell: int
) -> Candidates:
    """The brightest ``per_cell`` candidates of every cell of the image, in the order of their position."""
    column = ((candidates.x - exposure.xy0[0]) // cell_x).astype(int)
    row = ((candidates.y - exposure.xy0[1]) // cell_y).astype(int)
    order = np.lexsort((candidates.x, candidates.y, -candidates.snr, column, row))
    cell = np.stack([row, column])[:, order]
    first = np.append(True, (np.diff(cell, axis=1) != 0).any(axis=0))
    place = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    chosen = np.zeros(len(candidates), bool)
    chosen[order[place < per_cell]] = True
    return candidates.keep(chosen, "more than a cell takes")


def require(candidates: Candidates, needed: int, where: str) -> None:
    """Raise `NoStarsError` with what was rejected by cause, when fewer than ``needed`` are left."""
    if len(candidates) >= needed:
        return
    raise NoStarsError(
        f"{len(candidates)} kernel candidates {where}, {needed} needed ({causes(candidates)})",
        "choose a pair with more common stars, or lower subtract.kernel['AL'].detectionConfig.detThreshold",
    )


def causes(candidates: Candidates) -> str:
    """How many sources were left out, by cause, in words."""
    return (
        ", ".join(f"{count} {cause}" for cause, count in candidates.rejected.items()) or "no sources at all"
    )
