# SPDX-License-Identifier: BSD-3-Clause
"""A subtracted sky as afw stores it: layers of binned statistics, each smoothed its own way (gen2.md 1.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files import fitsread, splines
from diffrun.files.afw.exposure import DEFAULT_PLANES
from diffrun.files.afw.kernel import chebyshev_terms
from diffrun.files.atomic import write_bytes
from diffrun.files.fitswrite import Image, to_bytes

Array = NDArray[np.float64]
#: Rows that are joined at a time.
_BAND = 64

#: How bins are joined, by afw's numbers (``Interpolate::Style``), and the least number of bins each needs.
STYLES = {"CONSTANT": 0, "LINEAR": 1, "NATURAL_SPLINE": 2, "CUBIC_SPLINE": 3, "AKIMA_SPLINE": 5}
_LEAST = {"CONSTANT": 1, "LINEAR": 2, "NATURAL_SPLINE": 3, "CUBIC_SPLINE": 3, "AKIMA_SPLINE": 5}
_UNKNOWN, _CHEBYSHEV = -1, 0
_REDUCE_INTERP_ORDER = 1
_MAX_ORDER = 30
_ANEW = "get a whole copy of this file, or make it anew"


@dataclass(frozen=True)
class Layer:
    """One sky estimate: a statistic of each bin of an image.

    Attributes
    ----------
    statistics, variance : `numpy.ndarray`, (ny_bins, nx_bins), float32
        The sky in each bin, NaN where unknown, and its variance.
    box : `tuple` of `int`
        ``(x0, y0, width, height)`` of the image, parent pixels.
    style : `str`
        A key of `STYLES`: how bins are joined.
    order : `int` or `None`
        Highest total order of the Chebyshev polynomial fitted to the bins instead, `None` for none.
    weighting : `bool`
        Whether that fit weighs by the inverse variance.
    """

    statistics: NDArray[np.float32]
    variance: NDArray[np.float32]
    box: tuple[int, int, int, int]
    style: str = "AKIMA_SPLINE"
    order: int | None = None
    weighting: bool = True

    def image(self) -> NDArray[np.float32]:
        """The sky at each pixel, (height, width)."""
        return np.concatenate(list(self.bands()))

    def bands(self) -> Iterator[NDArray[np.float32]]:
        """The sky at each pixel, some rows at a time from the first on, (rows, width) each."""
        width, height = self.box[2:]
        x, y = _bin_centres(width, self.statistics.shape[1]), _bin_centres(height, self.statistics.shape[0])
        if self.order is not None:
            yield from self._approximated(x, y)
            return
        style = self.style
        if min(self.statistics.shape) < _LEAST[style]:
            style = _best_style(min(self.statistics.shape))
        bins = self.statistics.T.astype(float)
        columns = np.stack([_joined(y, column, np.arange(height), style) for column in bins], axis=1)
        good = np.isfinite(columns).all(axis=0)
        yield from _joined_rows(x[good], columns[:, good], np.arange(width), style)

    def _approximated(self, x: Array, y: Array) -> Iterator[NDArray[np.float32]]:
        """The Chebyshev polynomial of least squares at each pixel, some rows at a time."""
        width, height = self.box[2:]
        box = (-0.5, -0.5, width - 0.5, height - 0.5)
        order = self.order or 0
        grid_x, grid_y = np.meshgrid(x, y)
        weight = 1 / np.sqrt(self.variance.astype(float)) if self.weighting else np.ones(self.variance.shape)
        good = np.isfinite(self.statistics * weight)
        terms = chebyshev_terms(grid_x[good], grid_y[good], order, box)
        if good.sum() < terms.shape[1]:
            raise DataError(f"{good.sum()} bins are too few for a sky of order {order}", _ANEW)
        scaled = weight[good] * self.statistics[good]
        solution = np.linalg.lstsq(terms * weight[good][:, np.newaxis], scaled, rcond=None)[0]
        pairs = [(m - k, k) for m in range(order + 1) for k in range(m + 1)]
        matrix = np.zeros((order + 1, order + 1))
        for (i, j), coefficient in zip(pairs, solution, strict=True):
            matrix[i, j] = coefficient
        u = (2 * np.arange(width) - box[0] - box[2]) / (box[2] - box[0])
        v = (2 * np.arange(height) - box[1] - box[3]) / (box[3] - box[1])
        for top in range(0, height, _BAND):
            band = np.polynomial.chebyshev.chebgrid2d(u, v[top : top + _BAND], matrix).T
            yield np.asarray(band.astype(np.float32))


@dataclass(frozen=True)
class Background:
    """A subtracted sky, the sum of its layers."""

    layers: Sequence[Layer]

    def image(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The sky at each pixel of the image it was subtracted from.

        Parameters
        ----------
        shape : `tuple` [`int`, `int`]
            (ny, nx) of that image, to make sure.

        Raises
        ------
        diffrun.errors.DataError
            If the sky is of another shape, or is not a number anywhere.
        """
        total = np.zeros(shape, np.float32)
        self.added_to(total)
        return total

    def added_to(
        self,
        image: NDArray[np.float32],
        whole: tuple[int, int] | None = None,
        part: tuple[slice, slice] | None = None,
    ) -> None:
        """Add the sky to the image it was subtracted from, in place; raises as `image` does.

        Where ``image`` is a part of that one, ``part`` has its rows and columns, and ``whole`` the shape.
        """
        whole = whole or (len(image), image.shape[1])
        rows, columns = part or (slice(0, whole[0]), slice(0, whole[1]))
        for layer in self.layers:
            if (layer.box[3], layer.box[2]) != whole:
                raise DataError(
                    f"the background has {layer.box[2]} x {layer.box[3]} pixels, "
                    f"the image {whole[1]} x {whole[0]}",
                    "give the background that belongs to this image",
                )
            top, total = 0, 0.0
            for band in layer.bands():
                first, last = max(top, rows.start), min(top + len(band), rows.stop)
                if first < last:
                    image[first - rows.start : last - rows.start] += band[first - top : last - top, columns]
                top += len(band)
                total += float(band.sum(dtype=float))
            if not np.isfinite(total):
                raise DataError("the background has pixels that are not finite", _ANEW)


def read_background(path: Path) -> Background:
    """Read a ``BackgroundList``: three image HDUs a layer (statistics, mask, variance).

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged, or a layer is of a kind that cannot be evaluated.
    """
    with fitsread.opened(path) as hdus:
        if len(hdus) % 3 or not all(hdu.is_image and len(hdu.shape) == 2 for hdu in hdus):
            raise DataError(f"there are {len(hdus)} HDUs, not three images a layer", _ANEW)
        return Background(tuple(_layer(hdus[n], hdus[n + 2]) for n in range(0, len(hdus), 3)))


def background_to_bytes(background: Background) -> bytearray:
    """The file of a background, readable by afw 12.1 and today's; the same for the same background."""
    hdus = []
    for layer in background.layers:
        blank = np.zeros(layer.statistics.shape, np.uint16)
        for pixels in (layer.statistics.astype(np.float32), blank, layer.variance.astype(np.float32)):
            planes = DEFAULT_PLANES if pixels is blank else {}
            cards = [*_described(layer), *((f"MP_{name}", bit) for name, bit in planes.items())]
            hdus.append(Image(cards, pixels))
    return to_bytes(hdus)


def write_background(path: Path, background: Background) -> None:
    """Write a background under its name, whole or not at all.

    Raises
    ------
    diffrun.errors.OutputError
        If it cannot be written.
    """
    write_bytes(path, background_to_bytes(background))


def _layer(statistics: Any, variance: Any) -> Layer:
    """One layer from its HDUs."""
    header = statistics.header
    approximation = int(header.get("APPROXSTYLE", _UNKNOWN))
    number = int(header.get("INTERPSTYLE", STYLES["AKIMA_SPLINE"]))
    orders = int(header.get("APPROXORDERX", 0)), int(header.get("APPROXORDERY", -1))
    style = next((name for name, value in STYLES.items() if value == number), "")
    if approximation not in (_UNKNOWN, _CHEBYSHEV) or (approximation == _UNKNOWN and not style):
        raise DataError(f"a background has INTERPSTYLE {number}, APPROXSTYLE {approximation}", _ANEW)
    if approximation == _CHEBYSHEV and (not 0 <= orders[0] <= _MAX_ORDER or orders[1] not in (-1, orders[0])):
        raise DataError(f"a background has the orders {orders[0]} and {orders[1]}", _ANEW)
    box = tuple(int(header[f"BKGD_{name}"]) for name in ("X0", "Y0", "WIDTH", "HEIGHT"))
    if statistics.shape != variance.shape or not all(
        0 < bins <= pixels <= 100_000 for bins, pixels in zip(statistics.shape, box[:1:-1], strict=True)
    ):
        raise DataError(f"a background of {box[2]} x {box[3]} pixels has bins {statistics.shape}", _ANEW)
    return Layer(
        np.asarray(statistics.pixels(), np.float32),
        np.asarray(variance.pixels(), np.float32),
        (box[0], box[1], box[2], box[3]),
        style or "AKIMA_SPLINE",
        orders[0] if approximation == _CHEBYSHEV else None,
        bool(header.get("APPROXWEIGHTING", True)),
    )


def _described(layer: Layer) -> list[tuple[str, Any]]:
    """The cards by which afw knows a layer."""
    order = -1 if layer.order is None else layer.order
    cards: list[tuple[str, Any]] = [
        ("INTERPSTYLE", STYLES[layer.style]),
        ("UNDERSAMPLESTYLE", _REDUCE_INTERP_ORDER),
        ("APPROXSTYLE", _UNKNOWN if layer.order is None else _CHEBYSHEV),
        ("APPROXORDERX", order),
        ("APPROXORDERY", order),
        ("APPROXWEIGHTING", layer.weighting),
        *zip(("BKGD_X0", "BKGD_Y0", "BKGD_WIDTH", "BKGD_HEIGHT"), layer.box, strict=True),
    ]
    for axis in (1, 2):
        cards += [(f"CTYPE{axis}A", "LINEAR"), (f"CRPIX{axis}A", 1), (f"CRVAL{axis}A", 0)]
        cards += [(f"CUNIT{axis}A", "PIXEL")]
    return cards


def _bin_centres(length: int, bins: int) -> Array:
    """Centres of bins of nearly equal size, in pixels, as afw's ``Background`` lays them out."""
    ends = np.minimum((np.arange(1, bins + 1) * length + bins // 2) // bins, length)
    starts = np.concatenate([[0], ends[:-1]])
    return np.asarray((starts + ends) / 2 - 0.5)


def _best_style(bins: int) -> str:
    """The smoothest join that so few bins allow."""
    return ("CONSTANT", "CONSTANT", "LINEAR", "CUBIC_SPLINE", "CUBIC_SPLINE", "AKIMA_SPLINE")[min(bins, 5)]


def _joined_rows(x: Array, rows: Array, at: NDArray[Any], style: str) -> Iterator[NDArray[np.float32]]:
    """Join the values of each row at x, some rows at a time, (rows, len(at)).

    A join that is linear in the values is one matrix for all rows.
    """
    linear = style != "AKIMA_SPLINE" and len(x) > 0
    matrix = _joined(x, np.eye(len(x)), at, style) if linear else None
    for top in range(0, len(rows), _BAND):
        band = rows[top : top + _BAND]
        joined = band @ matrix if matrix is not None else _joined(x, band.T, at, style)
        yield joined.astype(np.float32)


def _joined(x: Array, values: Array, at: NDArray[Any], style: str) -> Array:
    """Join values at x along the first axis, (..., len(at)); beyond the ends a parabola goes on, as in afw.

    Values that are not finite are left out, and fewer values are joined by a simpler curve.
    """
    good = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    x, values = x[good], values[good]
    if len(x) == 0:
        return np.full((*values.shape[1:], len(at)), np.nan)
    if len(x) < _LEAST[style]:
        style = _best_style(len(x))
    if len(x) == 1 or style == "CONSTANT":
        return np.asarray(values[np.abs(at[:, np.newaxis] - x).argmin(axis=1)].T)
    join = {"LINEAR": splines.linear, "AKIMA_SPLINE": splines.akima}.get(style, splines.natural)
    return join(x, values).at(at)
