# SPDX-License-Identifier: BSD-3-Clause
"""Detections of many images joined on the sky into objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diffrun.engine import places
from diffrun.engine.overlap import vectors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_CHUNK = 4096


@dataclass(frozen=True)
class Objects:
    """Places on the sky, sorted by right ascension; object k of the tables is row k - 1.

    Attributes
    ----------
    ra, dec : `numpy.ndarray`, (N,)
        ICRS, degrees.
    names : `tuple` [`str`, ...]
        What a known place is called; empty for others.
    of : `numpy.ndarray`, (M,), int
        The row of each detection.
    """

    ra: Floats
    dec: Floats
    names: tuple[str, ...]
    of: Ints


def chord(degrees: float) -> float:
    """Distance of two unit vectors so many degrees apart."""
    return float(2 * np.sin(np.radians(degrees) / 2))


def associate(
    ra: Floats, dec: Floats, snr: Floats, radius: float, known: places.Places = places.NONE
) -> Objects:
    """Join detections into objects, whatever their order.

    Each known place is an object, and takes the detections to which it is the nearest, within twice the
    radius: what is detected between two that overlap is neither's own. Of the others the detection of the
    highest S/N begins an object and takes all that lie within the radius and are not taken yet, then the
    next one does: chains of neighbours do not grow together, and no two objects begin within the radius of
    each other. The place of such an object is the mean of its detections, weighted by (S/N)².

    Parameters
    ----------
    ra, dec : `numpy.ndarray`, (M,)
        ICRS, degrees, finite.
    snr : `numpy.ndarray`, (M,)
        Its magnitude counts, and at least 1.
    radius : `float`
        Degrees.
    known : `diffrun.engine.places.Places`, optional
    """
    weight = np.maximum(np.nan_to_num(np.abs(snr), posinf=0.0), 1.0)
    found, given = vectors(ra, dec), vectors(known.ra, known.dec)
    of = _nearest(found, given, chord(2 * radius))
    count = _grow(found, np.lexsort((dec, ra, -weight)), chord(radius), of, len(given))
    sums = [np.bincount(of, weight**2 * axis, count)[len(given) :] for axis in found.T]
    mean_ra = np.degrees(np.arctan2(sums[1], sums[0])) % 360.0
    mean_dec = np.degrees(np.arctan2(sums[2], np.hypot(sums[0], sums[1])))
    all_ra, all_dec = np.concatenate([known.ra, mean_ra]), np.concatenate([known.dec, mean_dec])
    names = (*known.names, *[""] * (count - len(given)))
    order = np.lexsort((all_dec, all_ra))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return Objects(all_ra[order], all_dec[order], tuple(names[k] for k in order), rank[of])


def _nearest(found: Floats, given: Floats, reach: float) -> Ints:
    """The known place of each detection, -1 without one."""
    if not len(given) or not len(found):
        return np.full(len(found), -1, np.int64)
    distance, index = cKDTree(given).query(found)
    return np.where(distance <= reach, index, -1).astype(np.int64)


def _grow(found: Floats, order: NDArray[np.intp], reach: float, of: Ints, count: int) -> int:
    """Give the rest of the detections to new objects, from number ``count`` on; how many there are then."""
    if not len(found):
        return count
    tree = cKDTree(found)
    for first in range(0, len(order), _CHUNK):
        waiting = order[first : first + _CHUNK]
        waiting = waiting[of[waiting] < 0]
        near_each = tree.query_ball_point(found[waiting], reach)
        for index, near in zip(waiting, near_each, strict=True):
            if of[index] < 0:
                free = np.asarray(near, np.int64)
                of[free[of[free] < 0]] = count
                count += 1
    return count
