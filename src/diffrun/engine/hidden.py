# SPDX-License-Identifier: BSD-3-Clause
"""Sources hidden in the light of others: what remains of a difference when the known ones are taken off.

Detection has one source for a connected region. Here the known ones are fitted together, places and fluxes,
and subtracted; what then stands out is one more, and all are fitted again, until nothing stands out (the way
of DAOPHOT and ALLFRAME: Stetson 1987, PASP 99, 191, and 1994, PASP 106, 250).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.sparse import hstack
from scipy.spatial import cKDTree

from diffrun.engine import scene
from diffrun.engine.flags import bits_at_center
from diffrun.engine.forced import of_design
from diffrun.engine.smoothpsf import fwhm
from diffrun.engine.stamps import UNUSABLE, Floats, cut, kernel_images, nearest_pixel
from diffrun.files.afw.exposure import Exposure

Bools = NDArray[np.bool_]
#: S/N from which what remains is a source.
_THRESHOLD = 5.0
#: And its part of the S/N of what it hides behind: a PSF is not known better.
_PSF_ERROR = 0.05
#: FWHM: nearest that a new one may be to another, and farthest that one moves at a time from where it was.
_NEAREST, _FARTHEST = 0.8, 0.5
#: One more source behind each that is known, as often.
_ROUNDS = 6
#: Sources in one chain beyond which a difference is too bad there to be looked at.
_MOST = 100
_STEPS = 8
#: Pixels: the longest step, and one that ends the walk.
_LONGEST, _SHORTEST = 0.5, 1e-3
_SINGULAR = 1e-6
#: Sources about which is searched at a time.
_CHUNK = 64
_UNSURE = (*UNUSABLE, "EDGE", "INTRP", "CR")
#: Planes of what is no PSF: nothing is looked for within the reach of such pixels.
_NO_PSF = ("SAT", "SAT_TEMPLATE")


@dataclass(frozen=True)
class Sources:
    """Parent positions and signed S/N, (N,) each, and whether a neighbour overlaps."""

    x: Floats
    y: Floats
    snr: Floats
    blended: Bools


def look(exposure: Exposure, x: Floats, y: Floats) -> Sources:
    """The sources of a difference: the known ones, in their order, and then those behind them.

    Known ones in a chain of very many stay as they are, with an S/N of 0.

    Parameters
    ----------
    exposure : `Exposure`
        With a PSF.
    x, y : `numpy.ndarray`, (N,)
        Parent positions of the known ones.
    """
    reach = scene.reach(exposure)
    few = scene.sizes(x, y, reach) <= _MOST
    found = _look(exposure, np.stack([x, y], axis=1)[few], reach)
    known = few.sum()
    columns = []
    for values, before in ((found.x, x), (found.y, y), (found.snr, 0 * x), (found.blended, ~few & few)):
        whole = before.copy()
        whole[few] = values[:known]
        columns.append(np.concatenate([whole, values[known:]]))
    return Sources(*columns)


def _look(exposure: Exposure, place: Floats, reach: float) -> Sources:
    known, width = len(place), fwhm(exposure.psf, *exposure.psf.average_position)
    least = _NEAREST * width
    refused, changed = np.empty((0, 2)), place
    rest = exposure.replace(image=exposure.image.copy())
    for _ in range(_ROUNDS):
        place = _settled(exposure, place, _near(place, changed, reach), reach, width)
        snr, blended = _take_off(rest, exposure, place, reach)
        weak = (np.abs(snr) < _THRESHOLD) | _crowded(place, least)
        weak[:known] = False
        if weak.any():
            changed, place = place[weak], place[~weak]
            refused = np.concatenate([refused, changed])
            continue
        searched = (np.abs(snr) > _THRESHOLD) & _near(place, changed, 2 * reach)
        searched &= ~_saturated(exposure, place, reach)
        peaks = _peaks(rest, place[searched], cKDTree(np.concatenate([place, refused])), reach, least)
        changed = _highest(*peaks, place, snr, reach)
        if not len(changed):
            break
        place = np.concatenate([place, changed])
    else:
        snr, blended = _take_off(rest, exposure, place, reach)
    return Sources(place[:, 0], place[:, 1], snr, blended)


def _near(place: Floats, changed: Floats, distance: float) -> Bools:
    """Which lie within a distance of what has changed."""
    return np.asarray(cKDTree(changed).query(place, distance_upper_bound=distance)[0] <= distance)


def _settled(exposure: Exposure, place: Floats, walks: Bools, reach: float, width: float) -> Floats:
    """Where these and their neighbours fit best, by Gauss-Newton steps; a lost one stays where it was."""
    moved = place.copy()
    for _ in range(_STEPS):
        near = cKDTree(moved).query_ball_point(moved[walks], reach)
        active = np.unique(np.concatenate([np.empty(0, np.intp), *near]).astype(np.intp))
        step = np.zeros_like(place)
        for some in scene.batches(moved[active, 0], moved[active, 1], reach):
            own = active[some]
            step[own] = _step(exposure, moved[own])
        moved += step
        far = np.hypot(*(moved - place).T) > _FARTHEST * width
        moved[far] = place[far]
        walks = (np.abs(step).max(axis=1) > _SHORTEST) & ~far
        if not walks.any():
            break
    return moved


def _step(exposure: Exposure, place: Floats) -> Floats:
    """One linearised solution of d = Σ f m + f δx ∂m/∂x + f δy ∂m/∂y: the δ of those that are significant."""
    design = scene.design(exposure, place[:, 0], place[:, 1], slopes=True)
    found, _ = of_design(exposure, design)
    count = len(place)
    columns = hstack([design.profile, *design.slopes], format="csc")
    normal = (columns.T @ columns).tocsc()
    projected = columns.T @ exposure.image.ravel()[design.pixels].astype(float)
    step = np.zeros((count, 2))
    blends = scene.groups(normal[:count, :count])
    alone = np.setdiff1d(np.arange(count), np.concatenate([*blends, np.empty(0, np.intp)]))
    for group in (*blends, *alone[:, None]):
        own = np.concatenate([group, count + group, 2 * count + group])
        inverse = np.linalg.pinv(normal[np.ix_(own, own)].toarray(), rcond=_SINGULAR, hermitian=True)
        flux, *shifts = (inverse @ projected[own]).reshape(3, -1)
        sure = np.abs(found.flux[group]) > _THRESHOLD * found.sigma[group]
        safe = np.where(sure & (flux * found.flux[group] > 0), flux, np.inf)
        step[group] = np.clip(np.stack(shifts, axis=1) / safe[:, None], -_LONGEST, _LONGEST)
    return step


def _take_off(rest: Exposure, exposure: Exposure, place: Floats, reach: float) -> tuple[Floats, Bools]:
    """Make ``rest`` the difference without any of them; the S/N of each, and whether it has a neighbour."""
    snr, blended = np.zeros(len(place)), np.zeros(len(place), bool)
    rest.image[:] = exposure.image
    for some in scene.batches(place[:, 0], place[:, 1], reach):
        design = scene.design(exposure, place[some, 0], place[some, 1])
        found, blended[some] = of_design(exposure, design)
        flux = np.nan_to_num(found.flux)
        rest.image.ravel()[design.pixels] -= (design.profile @ flux).astype(rest.image.dtype)
        snr[some] = np.divide(flux, found.sigma, out=np.zeros(len(flux)), where=found.sigma > 0)
    return snr, blended


def _crowded(place: Floats, least: float) -> Bools:
    """Which have one before them nearer than that."""
    pairs = cKDTree(place).query_pairs(least, output_type="ndarray") if len(place) else np.empty((0, 2), int)
    found = np.zeros(len(place), bool)
    found[pairs[:, 1]] = True
    return found


def _highest(height: Floats, peak: Floats, place: Floats, snr: Floats, reach: float) -> Floats:
    """Of peaks those that are sources, one within the reach of each other at most, (M, 2)."""
    beside = cKDTree(place).query_ball_point(peak, 2 * reach)
    chosen: list[Floats] = []
    for index in np.argsort(-height, kind="stable"):
        limit = max(_THRESHOLD, _PSF_ERROR * np.abs(snr[beside[index]]).max(initial=0.0))
        if height[index] >= limit and all(np.hypot(*(peak[index] - other)) > reach for other in chosen):
            chosen.append(peak[index])
    return np.array(chosen).reshape(-1, 2)


def _saturated(exposure: Exposure, place: Floats, reach: float) -> Bools:
    """Which have saturated pixels within the reach, along either axis."""
    bits, (x0, y0), wide = exposure.bits(*_NO_PSF), exposure.xy0, int(reach)
    found = []
    for x, y in nearest_pixel(place):
        rows, columns = (slice(max(at - wide, 0), max(at + wide + 1, 0)) for at in (y - y0, x - x0))
        found.append(bool((exposure.mask[rows, columns] & bits).any()))
    return np.array(found, bool)


def _peaks(
    rest: Exposure, place: Floats, taken: cKDTree, reach: float, least: float
) -> tuple[Floats, Floats]:
    """The most significant pixel about each place, not too near to any that is taken: S/N and position."""
    found = [(np.empty(0), np.empty((0, 2)))]
    for first in range(0, len(place), _CHUNK):
        found.append(_peaks_of(rest, place[first : first + _CHUNK], taken, reach, least))
    height, peak = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return height, peak


def _peaks_of(
    rest: Exposure, place: Floats, taken: cKDTree, reach: float, least: float
) -> tuple[Floats, Floats]:
    column, row = nearest_pixel(place[:, 0]), nearest_pixel(place[:, 1])
    kernels = kernel_images(rest.psf, *place.T)
    wide = int(np.ceil(reach))
    stamps = cut(rest, column, row, wide + kernels.shape[-1] // 2)
    turned = kernels[:, ::-1, ::-1]
    total = fftconvolve(stamps.image, turned, "valid", axes=(1, 2))
    noise = fftconvolve(stamps.variance, turned**2, "valid", axes=(1, 2))
    snr = np.abs(total) / np.sqrt(np.maximum(noise, np.finfo(float).tiny))
    steps = np.arange(-wide, wide + 1)
    x, y = np.broadcast_arrays(column[:, None, None] + steps, row[:, None, None] + steps[:, None])
    distance, _ = taken.query(np.stack([x, y], axis=-1))
    bits = bits_at_center(rest, x.ravel().astype(float), y.ravel().astype(float)).reshape(x.shape)
    sure = stamps.trimmed(wide).good & ((bits & rest.bits(*_UNSURE)) == 0)
    near = np.hypot(x - place[:, :1, None], y - place[:, 1:, None]) <= reach
    snr = np.where(sure & near & (distance > least), snr, 0.0).reshape(len(place), -1)
    best = snr.argmax(axis=1)
    down, right = np.divmod(best, len(steps))
    peak = np.stack([column + right - wide, row + down - wide], axis=1).astype(float)
    return snr[np.arange(len(place)), best], peak
