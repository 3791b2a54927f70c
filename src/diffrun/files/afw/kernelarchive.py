# SPDX-License-Identifier: BSD-3-Clause
"""Kernels in an archive: fixed, analytic, and linear combinations that vary over the field (afw.md 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.archive import Archive, ArchiveWriter, Row
from diffrun.files.afw.kernel import LinearCombinationKernel, polynomial_order
from diffrun.files.afw.rows import columns, dimensions, positive, vector

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
_MODULE = "lsst.afw.math"
_EDGES = ("min_x", "min_y", "max_x", "max_y")


def read_kernel(archive: Archive, number: int, box: Box) -> LinearCombinationKernel:
    """The kernel with this id, its spatial functions as Chebyshev series on ``box`` or on their own range."""
    name = archive.name(number)
    if name == "LinearCombinationKernel":
        return _read_linear_combination(archive, number, box)
    component = _read_component(archive, number)
    return LinearCombinationKernel(component[np.newaxis], np.array([[1.0]]), box)


def put_kernel(archive: ArchiveWriter, kernel: LinearCombinationKernel) -> int:
    """Store a kernel: one fixed image as ``FixedKernel``, more as ``LinearCombinationKernel``; its id."""
    number = archive.reserve()
    if kernel.coefficients.shape == (1, 1):
        return _put_fixed(archive, number, kernel.components[0] * kernel.coefficients[0, 0])
    functions, components = [], []
    for coefficients in kernel.coefficients:
        functions.append(archive.reserve())
        row: Row = {"coefficients": vector("D", coefficients)}
        row |= {name: ("1D", edge) for name, edge in zip(_EDGES, kernel.box, strict=True)}
        archive.put(functions[-1], "Chebyshev1Function2D", _MODULE, [[row]])
    for component in kernel.components:
        components.append(_put_fixed(archive, archive.reserve(), component))
    row = _frame(kernel.components[0])
    row |= {"spatialfunctions": vector("J", functions), "components": vector("J", components)}
    return archive.put(number, "LinearCombinationKernel", _MODULE, [[row]])


def _read_linear_combination(archive: Archive, number: int, box: Box) -> LinearCombinationKernel:
    """A ``LinearCombinationKernel`` whose functions are polynomials of either kind, or constants."""
    row = archive.row(number)
    fields = row.dtype.names
    images = np.array([_read_component(archive, int(part)) for part in np.ravel(row["components"])])
    if "spatialfunctions" not in fields:
        amplitudes = np.array(np.ravel(row["amplitudes"]), float)
        return LinearCombinationKernel(images, amplitudes[:, np.newaxis], box)
    ids = [int(part) for part in np.ravel(row["spatialfunctions"])]
    if len(ids) != len(images):
        raise DataError(f"a kernel has {len(images)} images and {len(ids)} functions", "make the file anew")
    own = [_chebyshev_box(archive.row(part)) for part in ids if archive.name(part).startswith("Chebyshev1")]
    target = own[0] if own else box
    series = [_read_function(archive, part, target) for part in ids]
    terms = max(len(one) for one in series)
    coefficients = np.array([np.pad(one, (0, terms - len(one))) for one in series])
    return LinearCombinationKernel(images, coefficients, target)


def _read_function(archive: Archive, number: int, box: Box) -> Array:
    """A two-dimensional polynomial as Chebyshev coefficients on a box, exactly."""
    name, row = archive.name(number), archive.row(number)
    coefficients = np.array(np.ravel(row["coefficients"]), float)
    if name in ("Chebyshev1Function2D", "Chebyshev1Function2F"):
        own = _chebyshev_box(row)
        if own == box:
            return coefficients
        return _rebased(coefficients, box, partial(_chebyshev_term, box=own))
    if name in ("PolynomialFunction2D", "PolynomialFunction2F"):
        return _rebased(coefficients, box, _power)
    raise DataError(f"a kernel varies with a function of the class {name}", "give polynomials")


def _rebased(coefficients: Array, box: Box, basis: Callable[..., Array]) -> Array:
    """Re-expand Σ c_k p_(m-k)(x) p_k(y), where p_n is a polynomial of degree n, in Chebyshev terms on a box.

    A polynomial of degree n is its own Chebyshev interpolant at n + 1 points.
    """
    order = polynomial_order(len(coefficients))
    # Matrices of one variable: row n holds the series of p_n.
    x, y = (
        np.array(
            [
                _expanded(partial(basis, axis=axis, n=n), box[axis], box[axis + 2], order)
                for n in range(order + 1)
            ]
        )
        for axis in (0, 1)
    )
    grid = np.zeros((order + 1, order + 1))
    terms = [(m - k, k) for m in range(order + 1) for k in range(m + 1)]
    for (i, j), coefficient in zip(terms, coefficients, strict=True):
        grid += coefficient * np.outer(x[i], y[j])
    return np.array([grid[i, j] for i, j in terms])


def _expanded(function: Callable[[Array], Array], low: float, high: float, order: int) -> Array:
    """Chebyshev coefficients of a polynomial of degree ``order`` or less on [low, high]."""
    nodes = chebyshev.chebpts1(order + 1)
    values = function((low + high + nodes * (high - low)) / 2)
    return np.asarray(np.linalg.solve(chebyshev.chebvander(nodes, order), values))


def _power(x: Array, axis: int, n: int) -> Array:
    """x to the n, along either axis."""
    return np.asarray(x**n)


def _chebyshev_term(x: Array, axis: int, n: int, box: Box) -> Array:
    """T_n of x mapped from the box to [-1, 1] along an axis."""
    low, high = box[axis], box[axis + 2]
    return np.asarray(chebyshev.chebval((2 * x - low - high) / (high - low), [0.0] * n + [1.0]))


def _chebyshev_box(row: Any) -> Box:
    """The range of a Chebyshev function."""
    box = (float(row["min_x"]), float(row["min_y"]), float(row["max_x"]), float(row["max_y"]))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise DataError(f"a Chebyshev function has the range {box}", "make the file anew")
    return box


def _read_component(archive: Archive, number: int) -> Array:
    """The image of a ``FixedKernel``, or of an ``AnalyticKernel`` that is constant, odd and centred."""
    name, row = archive.name(number), archive.row(number)
    width, height = dimensions(row, odd=False)
    centre = (int(row["center_x"]), int(row["center_y"]))
    if name == "FixedKernel":
        image = np.array(row["image"], float).reshape(height, width)
    elif name == "AnalyticKernel" and "spatialfunctions" not in row.dtype.names:
        image = _analytic_image(archive, int(row["kernelfunction"]), (width, height), centre)
    else:
        raise DataError(f"a kernel is of the class {name}", "give FixedKernel or LinearCombinationKernel")
    if not np.all(np.isfinite(image)):
        raise DataError("a kernel has pixels that are not finite", "make the file anew")
    return _centred(image, centre)


def _analytic_image(archive: Archive, number: int, size: tuple[int, int], centre: tuple[int, int]) -> Array:
    """An elliptical Gaussian sampled at pixel centres, with sum 1."""
    name, row = archive.name(number), archive.row(number)
    if name not in ("GaussianFunction2D", "GaussianFunction2F"):
        raise DataError(f"a kernel is made by a function of the class {name}", "give GaussianFunction2D")
    sigma1, sigma2, angle = float(row["sigma1"]), float(row["sigma2"]), float(row["angle"])
    positive(name, sigma1, sigma2)
    x = (np.arange(size[0]) - centre[0])[np.newaxis, :]
    y = (np.arange(size[1]) - centre[1])[:, np.newaxis]
    major = (x * np.cos(angle) + y * np.sin(angle)) / sigma1
    minor = (y * np.cos(angle) - x * np.sin(angle)) / sigma2
    image = np.exp(-(major**2 + minor**2) / 2)
    return np.asarray(image / image.sum())


def _centred(image: Array, centre: tuple[int, int]) -> Array:
    """The image with zeros around it so that it is odd and ``centre`` (x, y) is its middle pixel."""
    pads = []
    for length, middle in zip(image.shape, centre[::-1], strict=True):
        if not 0 <= middle < length:
            raise DataError(f"a kernel of {length} pixels has its centre at {middle}", "make the file anew")
        half = max(middle, length - 1 - middle)
        pads.append((half - middle, half - (length - 1 - middle)))
    return np.pad(image, pads)


def _put_fixed(archive: ArchiveWriter, number: int, image: Array) -> int:
    """Store one image as a ``FixedKernel``."""
    row = _frame(image) | {"image": vector("D", image.ravel())}
    return archive.put(number, "FixedKernel", _MODULE, [[row]])


def _frame(image: Array) -> Row:
    """Size and centre of a kernel."""
    height, width = image.shape
    return columns("dimensions", "1J", (width, height)) | columns("center", "1J", (width // 2, height // 2))
