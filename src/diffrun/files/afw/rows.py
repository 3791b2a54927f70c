# SPDX-License-Identifier: BSD-3-Clause
"""The cells of an archive's rows: points, vectors, sizes; read and made (afw.md 2.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffrun.errors import DataError
from diffrun.files.afw.archive import Row

_MAX_SIDE = 1000


def columns(name: str, form: str, pair: tuple[float, float]) -> Row:
    """A point as afw stores it: two columns."""
    return {f"{name}_x": (form, pair[0]), f"{name}_y": (form, pair[1])}


def vector(kind: str, values: Any) -> tuple[str, Any]:
    """A column of fixed length."""
    return f"{len(values)}{kind}", np.asarray(values)


def point(row: Any, name: str) -> tuple[float, float]:
    """A point of two columns, or of one column as before 2015."""
    if name in row.dtype.names:
        return float(row[name][0]), float(row[name][1])
    return float(row[f"{name}_x"]), float(row[f"{name}_y"])


def dimensions(row: Any, odd: bool = True) -> tuple[int, int]:
    """Width and height of a stamp, within bounds."""
    size = (int(row["dimensions_x"]), int(row["dimensions_y"]))
    if not all(0 < n <= _MAX_SIDE and (n % 2 or not odd) for n in size):
        raise DataError(f"a PSF or kernel has the size {size[0]} x {size[1]}", "make the file anew")
    return size


def positive(name: str, *values: float) -> None:
    """Refuse a width or scale that is not a positive number."""
    if not all(0 < value < np.inf for value in values):
        raise DataError(f"a {name} has a width or scale that is not positive", "make the file anew")


def finite(numbers: tuple[float, ...]) -> bool:
    """Whether all numbers are finite."""
    return bool(np.all(np.isfinite(numbers)))
