# SPDX-License-Identifier: BSD-3-Clause
"""Choice of the stars from which the PSF is fitted: bright, unsaturated, alone, and of one size."""

from __future__ import annotations

from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray
from psffit import HALF, Stars, cut
from reduce import THRESHOLD, plane
from visits import SIZE, STAMP, XY0

Array = NDArray[np.float64]
SPOILT = plane("SAT") | plane("BAD") | plane("CR")


def extract(image: Array, variance: Array, sigma: float) -> tuple[Any, NDArray[np.int32]]:
    """Objects above the threshold in the image matched with a Gaussian PSF, and their pixels."""
    half = int(3 * sigma + 1)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.exp(-(x * x + y * y) / (2 * sigma**2))
    sep.set_extract_pixstack(2_000_000)
    return sep.extract(
        image, THRESHOLD, err=np.sqrt(variance), filter_kernel=kernel, filter_type="matched",
        minarea=5, deblend_nthresh=32, deblend_cont=0.003, clean=False, segmentation_map=True,
    )  # fmt: skip


def candidates(objects: Any, segments: NDArray[np.int32], image: Array, variance: Array,
               mask: NDArray[np.int32]) -> tuple[NDArray[np.int64], Stars]:  # fmt: skip
    """Rows of the stars to fit, brightest first, with their stamps."""
    flux, error, _ = sep.sum_circle(image, objects["x"], objects["y"], 6.0, err=np.sqrt(variance))
    radius, _ = sep.flux_radius(image, objects["x"], objects["y"], np.full(len(objects), 15.0), 0.5)
    bright = (flux > 60 * error) & (radius > 0.5)
    inside = (np.minimum(objects["x"], objects["y"]) > HALF + 3) & (
        np.maximum(objects["x"], objects["y"]) < SIZE - HALF - 4
    )
    rows = np.nonzero(bright & inside)[0]
    rows = rows[[_clean(mask, objects["x"][i], objects["y"][i]) for i in rows]]
    rows = rows[_locus(radius[rows], flux[rows])]
    rows = rows[[_alone(i, objects, flux) for i in rows]]
    rows = rows[np.argsort(-flux[rows], kind="stable")]
    return rows, _stamps(rows, objects, segments, image, variance, mask)


def _clean(mask: NDArray[np.int32], x: float, y: float) -> bool:
    """No defect within 7 pixels."""
    ix, iy = round(float(x)), round(float(y))
    return not bool(np.any(mask[iy - 7 : iy + 8, ix - 7 : ix + 8] & SPOILT))


def _locus(radius: Array, flux: Array) -> NDArray[np.bool_]:
    """Members of the densest clump of half-light radii, 4 per cent wide on either side."""
    order = np.sort(radius)
    inside = [np.sum(np.abs(order / r - 1) < 0.04) for r in order]
    middle = np.median(order[np.abs(order / order[int(np.argmax(inside))] - 1) < 0.04])
    return np.asarray(np.abs(radius / middle - 1) < 0.06)


def _alone(i: int, objects: Any, flux: Array) -> bool:
    """No neighbour of a twentieth of its flux within 12 pixels, nor of half its flux within 25."""
    distance = np.hypot(objects["x"] - objects["x"][i], objects["y"] - objects["y"][i])
    distance[i] = np.inf
    near = (distance < 12) & (flux > 0.05 * flux[i])
    return not bool(np.any(near | ((distance < 25) & (flux > 0.5 * flux[i]))))


def _stamps(rows: NDArray[np.int64], objects: Any, segments: NDArray[np.int32], image: Array,
            variance: Array, mask: NDArray[np.int32]) -> Stars:  # fmt: skip
    x, y = objects["x"][rows] + XY0[0], objects["y"][rows] + XY0[1]
    data, noise, good = (np.zeros((len(rows), STAMP, STAMP)) for _ in range(3))
    for n, i in enumerate(rows):
        data[n], noise[n] = cut(image, x[n], y[n]), cut(variance, x[n], y[n])
        others = cut(segments.astype(float), x[n], y[n])
        spoilt = cut((mask & SPOILT).astype(float), x[n], y[n]) != 0
        good[n] = ((others == 0) | (others == i + 1)) & ~spoilt
    return Stars(x, y, data, noise, good.astype(bool))
