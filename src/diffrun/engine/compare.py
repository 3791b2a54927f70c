# SPDX-License-Identifier: BSD-3-Clause
"""How far two versions of one product are apart, in units of the noise.

    python -m diffrun.engine.compare A B

answers in JSON: ``largest`` (the largest deviation), ``unit`` (what it is counted in), ``where``, and
``differing`` of ``values`` that differ at all. Exposures count in the standard deviation of each pixel
(the square root of A's variance), catalogues in the error of each measured value, kernels in their peak.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError, DiffrunError
from diffrun.files.afw.catalog import Catalog, read_catalog
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.kernel import LinearCombinationKernel
from diffrun.files.afw.reader import read_exposure, read_kernel

#: How the columns of errors are named, by the two conventions of the stack.
_ERRORS = ("Err", "Sigma", "_err")


@dataclass(frozen=True)
class Deviation:
    """One array against another: the largest deviation, its place, how many values differ."""

    largest: float
    unit: str
    where: str
    differing: int
    values: int

    def as_dict(self) -> dict[str, Any]:
        """For the answer; an infinite deviation (a value against none) is written as `None`."""
        largest = float(f"{self.largest:.4g}") if np.isfinite(self.largest) else None
        return {**self.__dict__, "largest": largest}


def compare(first: Path, second: Path) -> Deviation:
    """Compare two files of the same product.

    Raises
    ------
    DataError
        If they are no exposures, catalogues or kernels, or of different shapes.
    """
    readers: tuple[tuple[Callable[[Path], Any], Callable[[Any, Any], Deviation]], ...] = (
        (read_exposure, of_exposures),
        (read_kernel, of_kernels),
        (read_catalog, of_catalogues),
    )
    for read, measure in readers:
        try:
            one, other = read(first), read(second)
        except DataError:
            continue
        return measure(one, other)
    raise DataError(f"{first} and {second} are not two exposures, catalogues or kernels", "compare the bytes")


def of_exposures(one: Exposure, other: Exposure) -> Deviation:
    """Pixels of the image in units of sqrt(variance), at the pixel; the masks count as differing values."""
    if one.shape != other.shape:
        raise DataError(f"the images are of {one.shape} and {other.shape} pixels", "compare like with like")
    noise = np.sqrt(np.where(one.variance > 0, one.variance, np.nan), dtype=np.float64)
    noise = np.where(np.isfinite(noise), noise, np.nanmedian(noise) if np.isfinite(noise).any() else 1.0)
    apart = _apart(one.image, other.image) / noise
    differs = (apart > 0) | (one.mask != other.mask) | (_apart(one.variance, other.variance) > 0)
    row, column = np.unravel_index(int(np.argmax(apart)), apart.shape)
    place = f"pixel x={column + one.xy0[0]} y={row + one.xy0[1]}"
    return Deviation(float(apart.max()), "sigma", place, int(differs.sum()), apart.size)


def of_catalogues(one: Catalog, other: Catalog) -> Deviation:
    """Columns that have an error in units of it; the rest only count as differing values."""
    if len(one) != len(other) or one.names != other.names:
        raise DataError(f"the catalogues have {len(one)} and {len(other)} rows", "see the pixels first")
    found = [_of_column(one, other, name) for name in one.names]
    values = sum(deviation.values for deviation in found)
    differing = sum(deviation.differing for deviation in found)
    worst = max(found, key=lambda deviation: deviation.largest, default=Deviation(0.0, "sigma", "", 0, 0))
    return Deviation(worst.largest, "sigma", worst.where, differing, values)


def of_kernels(one: LinearCombinationKernel, other: LinearCombinationKernel) -> Deviation:
    """The kernels at the middle, the edges and the corners of the field, in units of the first one's peak."""
    if one.components.shape[1:] != other.components.shape[1:]:
        raise DataError("the kernels are of different sizes", "compare like with like")
    min_x, min_y, max_x, max_y = one.box
    grid = [(x, y) for x in (min_x, (min_x + max_x) / 2, max_x) for y in (min_y, (min_y + max_y) / 2, max_y)]
    found = [(one.at(x, y), other.at(x, y), f"kernel at x={x:g} y={y:g}") for x, y in grid]
    peak = max(float(np.abs(first).max()) for first, _, _ in found) or 1.0
    apart = [_apart(first, second) / peak for first, second, _ in found]
    worst = max(range(len(found)), key=lambda n: float(apart[n].max()))
    differing = sum(int(np.count_nonzero(each)) for each in apart)
    where, values = found[worst][2], sum(each.size for each in apart)
    return Deviation(float(apart[worst].max()), "of the peak", where, differing, values)


def _of_column(one: Catalog, other: Catalog, name: str) -> Deviation:
    first, second = one[name], other[name]
    apart = _apart(first, second)
    differing = int(np.count_nonzero(apart))
    error = next((one[name + end] for end in _ERRORS if name + end in one), None)
    if error is None or not differing or error.shape != first.shape:
        return Deviation(0.0, "sigma", "", differing, apart.size)
    usable = np.isfinite(error) & (error > 0)
    sigma = np.where(usable, apart / np.where(usable, error, 1.0), 0.0)
    row = int(np.argmax(sigma))
    return Deviation(float(sigma[row]), "sigma", f"{name} of row {row}", differing, apart.size)


def _apart(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """The absolute difference; 0 where both are NaN, infinite where one alone is or words differ."""
    same = np.asarray(first == second)
    if not np.issubdtype(first.dtype, np.number):
        return np.where(same, 0.0, np.inf)
    one, other = first.astype(np.float64), second.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    same |= np.isnan(one) & np.isnan(other)
    apart = np.where(np.isnan(apart), np.inf, np.maximum(apart, np.finfo(float).tiny))  # long ids round
    return np.where(same, 0.0, apart)


def main(argv: Sequence[str] | None = None) -> int:
    """The program: JSON on standard output, or one line on standard error and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m diffrun.engine.compare", description=__doc__)
    parser.add_argument("first", type=Path, metavar="A")
    parser.add_argument("second", type=Path, metavar="B")
    options = parser.parse_args(argv)
    try:
        print(json.dumps(compare(options.first, options.second).as_dict(), sort_keys=True))
    except DiffrunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
