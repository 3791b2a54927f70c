# SPDX-License-Identifier: BSD-3-Clause
"""Where two images lie on the sky, and how much of one the other covers, from their corners."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import NoOverlapError
from diffrun.files.afw.exposure import Frame
from diffrun.files.afw.reader import ExposureSummary, Part
from diffrun.files.afw.wcs import MADE_UP

Array = NDArray[np.float64]
#: By how many pixels a template may lie beside the science image, by the stars of both, and be moved.
LARGEST_OFFSET = 20.0
#: A template is cut only where more than this part of its pixels would be read for nothing.
_NOTABLE = 0.5
#: Places along a side of the science image that are carried into the template; pixels beside those of use.
_PLACES, _SLACK = 33, 16


def lacks_wcs(one: Any) -> bool:
    """Whether an exposure, or its summary, has no coordinates, or made-up ones."""
    return one.wcs is None or bool(one.metadata.get(MADE_UP, False))


def middle(image: Frame) -> tuple[float, float]:
    """The middle of an image in parent pixels."""
    (ny, nx), (x0, y0) = image.shape, image.xy0
    return x0 + (nx - 1) / 2, y0 + (ny - 1) / 2


def vectors(ra: Array, dec: Array) -> Array:
    """Unit vectors of places in degrees, (N, 3)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def footprint(summary: ExposureSummary) -> dict[str, Any]:
    """Middle and outer corners on the sky, degrees, for the printed object."""
    ra, dec = summary.wcs.pixel_to_sky(*corners(summary).T)
    centre = summary.wcs.pixel_to_sky(*(np.array([value]) for value in middle(summary)))
    return {
        "centre": [round(float(angle[0]), 6) for angle in centre],
        "corners": [[round(float(a), 6), round(float(d), 6)] for a, d in zip(ra, dec, strict=True)],
    }


def corners(image: Frame) -> Array:
    """Outer corners in parent pixels, counter-clockwise, (4, 2)."""
    (ny, nx), (x0, y0) = image.shape, image.xy0
    box = np.array([(0, 0), (nx, 0), (nx, ny), (0, ny)], float)
    return np.asarray(box + np.array([x0 - 0.5, y0 - 0.5]))


def overlap_fraction(science: ExposureSummary, template: ExposureSummary) -> float:
    """The fraction of the science image that the template covers, from the corners of both.

    The template's corners are carried into the science pixels and the polygon is clipped to the image
    (Sutherland and Hodgman 1974, CACM 17, 32).
    """
    ra, dec = template.wcs.pixel_to_sky(*corners(template).T)
    centre = np.array([np.array([c]) for c in middle(science)])
    if _separation(ra, dec, *science.wcs.pixel_to_sky(*centre)).min() > 45.0:
        return 0.0
    polygon = np.column_stack(science.wcs.sky_to_pixel(ra, dec))
    frame = corners(science)
    for start, end in zip(frame, np.roll(frame, -1, axis=0), strict=True):
        polygon = _clip(polygon, start, end)
    return float(_area(polygon) / _area(frame))


def beneath(template: Frame, science: Frame, reach: float) -> Part:
    """The rows and columns of a template that can fall onto a science image, where they are few of it.

    Parameters
    ----------
    template, science : `Frame`
        With their metadata, which says whether a WCS is made up.
    reach : `float`
        How far outside the science image the template is still looked at, science pixels, beside the offset
        that the stars may correct.

    Returns
    -------
    part : `Part`
        `None` for all, also where a WCS does not tell. A template no larger than the science image is never
        cut.

    Raises
    ------
    NoOverlapError
        If the template lies elsewhere.
    """
    pixels = template.shape[0] * template.shape[1]
    if pixels <= science.shape[0] * science.shape[1] or lacks_wcs(template) or lacks_wcs(science):
        return None
    margin = reach + LARGEST_OFFSET + _SLACK
    (ny, nx), (x0, y0) = science.shape, science.xy0
    along = (np.linspace(first - margin, first + n + margin, _PLACES) for first, n in ((x0, nx), (y0, ny)))
    x, y = (places.ravel() for places in np.meshgrid(*along))
    found = np.stack(template.wcs.sky_to_pixel(*science.wcs.pixel_to_sky(x, y)))
    if not np.isfinite(found).all():
        return None
    low = np.floor(found.min(axis=1)).astype(int) - template.xy0 - _SLACK
    high = np.ceil(found.max(axis=1)).astype(int) - template.xy0 + _SLACK
    low, high = np.maximum(low, 0), np.minimum(high, template.shape[::-1])
    if (low >= high).any():
        raise no_overlap()
    if np.prod(high - low) > _NOTABLE * pixels:
        return None
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def no_overlap() -> NoOverlapError:
    """What is said of two images of different sky."""
    return NoOverlapError(
        "the template does not overlap the science image at all", "choose two visits of the same sky"
    )


def _separation(ra: Array, dec: Array, ra0: Array, dec0: Array) -> Array:
    """Angle on the sky in degrees, by the haversine."""
    a, d, a0, d0 = (np.radians(angle) for angle in (ra, dec, ra0, dec0))
    h = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(h))))


def _clip(polygon: Array, start: Array, end: Array) -> Array:
    """The part of a polygon left of the line from ``start`` to ``end``."""
    if not len(polygon):
        return polygon
    edge = end - start
    side = edge[0] * (polygon[:, 1] - start[1]) - edge[1] * (polygon[:, 0] - start[0])
    kept = []
    for i in range(len(polygon)):
        before, here = i - 1, i
        if side[before] * side[here] < 0:
            t = side[before] / (side[before] - side[here])
            kept.append(polygon[before] + t * (polygon[here] - polygon[before]))
        if side[here] >= 0:
            kept.append(polygon[here])
    return np.array(kept).reshape(-1, 2)


def _area(polygon: Array) -> float:
    """Area of a polygon by the shoelace formula."""
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
