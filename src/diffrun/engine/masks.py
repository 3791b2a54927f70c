# SPDX-License-Identifier: BSD-3-Clause
"""Masks by name: what is missing, what is merged, what is near missing data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.exposure import Exposure

Bool = NDArray[np.bool_]
Bits = NDArray[np.int32]
#: Rows of a mask that are made at a time: no plane in between.
_ROWS = 256


def with_planes(planes: Mapping[str, int], *names: str) -> dict[str, int]:
    """Mask planes, and those of some names: each that is new on the lowest bit that no plane uses."""
    planes = dict(planes)
    for name in names:
        if name not in planes:
            planes[name] = next(bit for bit in range(31) if bit not in planes.values())
    return planes


def fill(exposure: Exposure, name: str) -> Exposure:
    """An exposure without NaN: what is not finite, or has no variance, becomes NO_DATA with the sky's value.

    Raises
    ------
    DataError
        When no usable pixel is left; ``name`` says which image it was.
    """
    planes = with_planes(exposure.planes, "NO_DATA")
    no_data = np.int32(1 << planes["NO_DATA"])
    if _complete(exposure):
        return exposure.replace(planes=planes)
    with np.errstate(invalid="ignore"):
        missing = ~(np.isfinite(exposure.image) & np.isfinite(exposure.variance) & (exposure.variance > 0))
    missing |= (exposure.mask & no_data) != 0
    if missing.all():
        raise DataError(
            f"the {name} image has no usable pixel", "every pixel is NaN, masked NO_DATA or without variance"
        )
    sky, noise = (_typical(plane, ~missing) for plane in (exposure.image, exposure.variance))
    return exposure.replace(
        image=np.where(missing, sky, exposure.image),
        variance=np.where(missing, noise, exposure.variance),
        mask=np.where(missing, exposure.mask | no_data, exposure.mask),
        planes=planes,
    )


def _complete(exposure: Exposure) -> bool:
    """Whether each pixel has a value and a variance, seen without a plane in between."""
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(exposure.image.sum()) and np.isfinite(exposure.variance.sum())
    return bool(finite and exposure.variance.min() > 0 and not exposure.has("NO_DATA").any())


def _typical(plane: NDArray[np.float32], usable: Bool) -> np.float32:
    """Median of the usable pixels, of one in sixteen where that is enough."""
    sample = plane[::4, ::4][usable[::4, ::4]]
    return np.float32(np.median(sample if len(sample) > 1000 else plane[usable]))


def grown(region: Bool, reach: int) -> Bool:
    """A region grown by a square of half width ``reach``, by doubling: pixels 1, 2, 4 ... side by side."""
    if reach <= 0 or not region.any():
        return region
    found = region
    for _ in range(2):  # along rows, then, turned, along columns
        found, width = np.pad(found, ((reach, reach), (0, 0))), 1
        while width <= 2 * reach:
            step = min(width, 2 * reach + 1 - width)
            found, width = found[:-step] | found[step:], width + step
        found = np.ascontiguousarray(found.T)
    return found


def cropped(exposure: Exposure, border: int) -> Exposure:
    """An exposure without a border on each side."""
    if not border:
        return exposure
    inner = np.s_[border:-border, border:-border]
    return exposure.replace(
        image=exposure.image[inner],
        mask=exposure.mask[inner],
        variance=exposure.variance[inner],
        xy0=(exposure.xy0[0] + border, exposure.xy0[1] + border),
    )


def merged(science: Exposure, template: Exposure, missing: Bool, incomplete: Bool) -> Exposure:
    """The science exposure with the masks of both images, by name; written into its own mask.

    Parameters
    ----------
    science, template : `Exposure`
        On one grid. The DETECTED planes of either are dropped.
    missing, incomplete : `numpy.ndarray`, (ny, nx), bool
        Pixels without a value, and with one that felt missing data: NO_DATA and EDGE in the result.
    """
    added = ("NO_DATA", "EDGE", "DETECTED", "DETECTED_NEGATIVE", *template.planes)
    planes = with_planes(science.planes, *added)
    detected = np.int32((1 << planes["DETECTED"]) | (1 << planes["DETECTED_NEGATIVE"]))
    mask = science.mask
    for rows in (slice(top, top + _ROWS) for top in range(0, len(mask), _ROWS)):
        of_template = _renumbered(template.mask[rows], template.planes, planes)
        np.bitwise_and(mask[rows] | of_template, ~detected, out=mask[rows])
        for region, name in ((missing[rows], "NO_DATA"), (incomplete[rows], "EDGE")):
            np.bitwise_or(mask[rows], np.int32(1 << planes[name]), out=mask[rows], where=region)
    return science.replace(planes=planes)


def _renumbered(mask: Bits, old: Mapping[str, int], new: Mapping[str, int]) -> Bits:
    """A mask with the bits that the new planes have."""
    same = np.int32(sum(1 << bit for name, bit in old.items() if new[name] == bit))
    out = mask & same
    for name, bit in old.items():
        if new[name] != bit:
            out |= ((mask >> np.int32(bit)) & np.int32(1)) << np.int32(new[name])
    return out
