# SPDX-License-Identifier: BSD-3-Clause
"""Mappings of Starlink AST, made from its dumps and evaluated both ways (afw.md 3.2).

Only the classes that afw puts into its files are known; any other is refused by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.astdump import ANEW, Object

Array = NDArray[np.float64]
_MAX_TERMS, _MAX_POWER = 1000, 20
_STEPS, _SMALL = 30, 1e-12


class Mapping(Protocol):
    """A map of points, (axes, n) arrays both, with its inverse."""

    @property
    def n_in(self) -> int: ...

    @property
    def n_out(self) -> int: ...

    def forward(self, points: Array) -> Array: ...

    def inverse(self, points: Array) -> Array: ...


def mapping(dump: Object, inverted: bool | None = None) -> Mapping:
    """The map that a dump describes.

    Parameters
    ----------
    dump : `Object`
    inverted : `bool`, optional
        Whether it is used inverted; unless said so, by its own ``Invert``.

    Raises
    ------
    diffrun.errors.DataError
        If its class is not known here; the message names it.
    """
    make = _MAKERS.get(dump.kind)
    if make is None:
        raise DataError(
            f"the WCS has a mapping of the class AST {dump.kind}", f"give one made of {', '.join(_MAKERS)}"
        )
    made = make(dump)
    if inverted is None:
        inverted = bool(dump.count("Invert", 0))
    return Inverse(made) if inverted else made


@dataclass(frozen=True)
class Inverse:
    """A map turned round."""

    of: Mapping

    @property
    def n_in(self) -> int:
        return self.of.n_out

    @property
    def n_out(self) -> int:
        return self.of.n_in

    def forward(self, points: Array) -> Array:
        return self.of.inverse(points)

    def inverse(self, points: Array) -> Array:
        return self.of.forward(points)


@dataclass(frozen=True)
class Series:
    """One map after the other."""

    first: Mapping
    second: Mapping

    @property
    def n_in(self) -> int:
        return self.first.n_in

    @property
    def n_out(self) -> int:
        return self.second.n_out

    def forward(self, points: Array) -> Array:
        return self.second.forward(self.first.forward(points))

    def inverse(self, points: Array) -> Array:
        return self.first.inverse(self.second.inverse(points))


@dataclass(frozen=True)
class Parallel:
    """Two maps side by side: the first takes the first axes."""

    first: Mapping
    second: Mapping

    @property
    def n_in(self) -> int:
        return self.first.n_in + self.second.n_in

    @property
    def n_out(self) -> int:
        return self.first.n_out + self.second.n_out

    def forward(self, points: Array) -> Array:
        n = self.first.n_in
        return np.concatenate([self.first.forward(points[:n]), self.second.forward(points[n:])])

    def inverse(self, points: Array) -> Array:
        n = self.first.n_out
        return np.concatenate([self.first.inverse(points[:n]), self.second.inverse(points[n:])])


@dataclass(frozen=True)
class Linear:
    """matrix · x + shift; AST's UnitMap, ZoomMap, ShiftMap, WinMap and MatrixMap."""

    matrix: Array
    shift: Array
    back: Array | None

    @property
    def n_in(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def n_out(self) -> int:
        return int(self.matrix.shape[0])

    def forward(self, points: Array) -> Array:
        return np.asarray(self.matrix @ points + self.shift[:, np.newaxis])

    def inverse(self, points: Array) -> Array:
        if self.back is None:
            raise DataError("the WCS has a matrix that cannot be inverted", ANEW)
        return np.asarray(self.back @ (points - self.shift[:, np.newaxis]))


@dataclass(frozen=True)
class Polynomial:
    """Σ c Π x^p for each output; inverted by Newton's method.

    Attributes
    ----------
    terms : `tuple`
        Of each output its coefficients (n,), and their powers (n, n_in).
    """

    n_in: int
    terms: tuple[tuple[Array, NDArray[np.int64]], ...]

    @property
    def n_out(self) -> int:
        return len(self.terms)

    def forward(self, points: Array) -> Array:
        return np.stack([_sum(c, p, points) for c, p in self.terms])

    def inverse(self, points: Array) -> Array:
        """Newton's method from the linear part; NaN where it does not end."""
        if self.n_in != self.n_out:
            raise DataError("the WCS has a polynomial that cannot be inverted", ANEW)
        zero = np.zeros((self.n_in, 1))
        at = np.linalg.solve(self._jacobian(zero)[0], points - self.forward(zero))
        for _ in range(_STEPS):
            step = np.linalg.solve(self._jacobian(at), (self.forward(at) - points).T[:, :, np.newaxis])
            at = at - step[:, :, 0].T
            size = np.abs(step[:, :, 0]).max(axis=1)
            if not np.any(size > _SMALL * (1 + np.abs(at).max(axis=0))):
                return np.asarray(at)
        return np.where(size < 1e-6 * (1 + np.abs(at).max(axis=0)), at, np.nan)

    def _jacobian(self, points: Array) -> Array:
        """Derivatives, (n, n_out, n_in)."""
        found = np.zeros((points.shape[1], self.n_out, self.n_in))
        for i, (c, p) in enumerate(self.terms):
            for j in range(self.n_in):
                lower = p.copy()
                lower[:, j] = np.maximum(p[:, j] - 1, 0)
                found[:, i, j] = _sum(c * p[:, j], lower, points)
        return found


@dataclass(frozen=True)
class UnitNorm:
    """A vector from ``centre`` as its direction and its length."""

    centre: Array

    @property
    def n_in(self) -> int:
        return len(self.centre)

    @property
    def n_out(self) -> int:
        return len(self.centre) + 1

    def forward(self, points: Array) -> Array:
        vector = points - self.centre[:, np.newaxis]
        length = np.sqrt((vector**2).sum(axis=0))
        return np.concatenate([vector / np.where(length > 0, length, 1.0), length[np.newaxis]])

    def inverse(self, points: Array) -> Array:
        return np.asarray(points[:-1] * points[-1] + self.centre[:, np.newaxis])


@dataclass(frozen=True)
class Sphere:
    """A 3-vector as longitude and latitude, radians."""

    pole: float
    n_in: int = 3
    n_out: int = 2

    def forward(self, points: Array) -> Array:
        x, y, z = points
        flat = np.hypot(x, y)
        return np.stack([np.where(flat > 0, np.arctan2(y, x), self.pole), np.arctan2(z, flat)])

    def inverse(self, points: Array) -> Array:
        longitude, latitude = points
        flat = np.cos(latitude)
        return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)])


@dataclass(frozen=True)
class Gnomonic:
    """The native sphere onto its tangent plane, radians (Calabretta & Greisen 2002, 5.1.3)."""

    n_in: int = 2
    n_out: int = 2

    def forward(self, points: Array) -> Array:
        phi, theta = points
        radius = np.where(theta > 0, np.cos(theta) / np.where(theta > 0, np.sin(theta), 1), np.nan)
        return np.stack([radius * np.sin(phi), -radius * np.cos(phi)])

    def inverse(self, points: Array) -> Array:
        x, y = points
        return np.stack([np.arctan2(x, -y), np.arctan2(1.0, np.hypot(x, y))])


def _sum(coefficients: Array, powers: NDArray[np.int64], points: Array) -> Array:
    """Σ c Π x^p at each point."""
    total = np.zeros(points.shape[1])
    table = [np.ones_like(points)]
    for _ in range(int(powers.max(initial=0))):
        table.append(table[-1] * points)
    for coefficient, power in zip(coefficients, powers.tolist(), strict=True):
        term = coefficient * np.ones_like(total)
        for axis, n in enumerate(power):
            if n:
                term = term * table[n][axis]
        total += term
    return total


def _compound(dump: Object) -> Mapping:
    first = mapping(dump.part("MapA"), bool(dump.count("InvA", 0)))
    second = mapping(dump.part("MapB"), bool(dump.count("InvB", 0)))
    if not dump.count("Series", 1):
        return Parallel(first, second)
    if first.n_out != second.n_in:
        raise DataError("an AST CmpMap joins maps that do not fit", ANEW)
    return Series(first, second)


def _diagonal(dump: Object, scale: str, shift: str) -> Mapping:
    """Scale and shift of each axis."""
    axes = range(1, dump.count("Nin") + 1)
    scales = np.array([dump.number(f"{scale}{n}", 1.0) if scale else 1.0 for n in axes])
    shifts = np.array([dump.number(f"{shift}{n}", 0.0) if shift else 0.0 for n in axes])
    return Linear(np.diag(scales), shifts, np.diag(1 / scales) if scales.all() else None)


def _zoom(dump: Object) -> Mapping:
    axes, zoom = dump.count("Nin"), dump.number("Zoom", 1.0)
    return Linear(np.eye(axes) * zoom, np.zeros(axes), np.eye(axes) / zoom if zoom else None)


def _matrix(dump: Object) -> Mapping:
    columns = dump.count("Nin")
    rows = dump.count("Nout", columns)
    form = dump.values.get("Form", "Full")
    if form == "Full":
        flat = [dump.number(f"M{n}", 0.0) for n in range(rows * columns)]
        matrix = np.array(flat).reshape(rows, columns)
    elif form == "Diagonal" and rows == columns:
        matrix = np.diag([dump.number(f"M{n}", 0.0) for n in range(rows)])
    else:
        raise DataError(f"an AST MatrixMap has Form = {form}", ANEW)
    regular = rows == columns and abs(np.linalg.det(matrix)) > 0
    return Linear(matrix, np.zeros(rows), np.linalg.inv(matrix) if regular else None)


def _polynomial(dump: Object) -> Mapping:
    inputs = dump.count("Nin")
    outputs = dump.count("Nout", inputs)
    counts = [dump.count(f"NCF{n}", 0, _MAX_TERMS) for n in range(1, outputs + 1)]
    terms, number = [], 0
    for count in counts:
        terms.append(
            (
                np.array([dump.number(f"CF{number + k}", 0.0) for k in range(1, count + 1)]),
                np.array(
                    [
                        dump.count(f"PF{(number + k) * inputs + i}", 0, _MAX_POWER)
                        for k in range(count)
                        for i in range(1, inputs + 1)
                    ],
                    np.int64,
                ).reshape(count, inputs),
            )
        )
        number += count
    return Polynomial(inputs, tuple(terms))


def _unit_norm(dump: Object) -> Mapping:
    return UnitNorm(np.array([dump.number(f"Ctr{n}", 0.0) for n in range(1, dump.count("Nin") + 1)]))


def _wcs(dump: Object) -> Mapping:
    kind = dump.values.get("Type", "")
    if kind != "TAN" or any(name.startswith("PV") for name in dump.values):
        raise DataError(f"the WCS has the projection {kind}", "give one with the projection TAN")
    return Gnomonic()


_MAKERS = {
    "CmpMap": _compound,
    "UnitMap": lambda dump: _diagonal(dump, "", ""),
    "ShiftMap": lambda dump: _diagonal(dump, "", "Sft"),
    "WinMap": lambda dump: _diagonal(dump, "Scl", "Sft"),
    "ZoomMap": _zoom,
    "MatrixMap": _matrix,
    "PolyMap": _polynomial,
    "UnitNormMap": _unit_norm,
    "SphMap": lambda dump: Sphere(dump.number("PlrLg", 0.0)),
    "WcsMap": _wcs,
}
