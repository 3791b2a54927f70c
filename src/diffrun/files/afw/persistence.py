# SPDX-License-Identifier: BSD-3-Clause
"""What the objects of an afw archive mean: PSFs, kernels, world coordinates, zero points (afw.md 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.afw.archive import Archive, ArchiveWriter, Row
from diffrun.files.afw.exposure import Psf
from diffrun.files.afw.kernel import LinearCombinationKernel, polynomial_order
from diffrun.files.afw.psf import DoubleGaussianPsf, GaussianPsf, KernelPsf, PsfexPsf
from diffrun.files.afw.wcs import TanSipWcs, checked, to_icrs

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
_MATH, _ALGORITHMS = "lsst.afw.math", "lsst.meas.algorithms"
_UNKNOWN_EQUINOX = 1e100
_EDGES = ("min_x", "min_y", "max_x", "max_y")
_MAX_SIDE = 1000
_OTHER_PSF = "give an image with a PSF of one of the classes " + ", ".join(
    ("GaussianPsf", "SingleGaussianPsf", "DoubleGaussianPsf", "KernelPsf", "PcaPsf", "PsfexPsf")
)


def read_psf(archive: Archive, number: int, box: Box) -> Psf:
    """The PSF with this id.

    Parameters
    ----------
    archive : `Archive`
    number : `int`
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)``, the parent pixels over which it will be used.

    Raises
    ------
    diffrun.errors.DataError
        If its class is none of those named in the remedy, or its tables make no PSF.
    """
    name = archive.name(number)
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    if name in ("KernelPsf", "PcaPsf"):
        row = archive.row(number)
        at = (float(row["averagePosition_x"]), float(row["averagePosition_y"]))
        return KernelPsf(read_kernel_object(archive, int(row["kernel"]), box), at if _finite(at) else centre)
    if name in ("GaussianPsf", "SingleGaussianPsf"):
        row = archive.row(number)
        sigma = float(row["sigma"])
        _positive(name, sigma)
        return GaussianPsf(_dimensions(row), sigma, centre, name)
    if name == "DoubleGaussianPsf":
        row = archive.row(number)
        sigma1, sigma2, b = float(row["sigma1"]), float(row["sigma2"]), float(row["b"])
        sigma2 = 1.0 if b == 0 and sigma2 == 0 else sigma2
        _positive(name, sigma1, sigma2)
        return DoubleGaussianPsf(_dimensions(row), sigma1, sigma2, b, centre)
    if name == "PsfexPsf":
        return _read_psfex(archive, number)
    raise DataError(f"the image's PSF is of the class {name or '(missing)'}", _OTHER_PSF)


def read_kernel_object(archive: Archive, number: int, box: Box) -> LinearCombinationKernel:
    """The kernel with this id, its spatial functions as Chebyshev series on ``box`` or on their own range."""
    name = archive.name(number)
    if name == "LinearCombinationKernel":
        return _read_linear_combination(archive, number, box)
    component = _read_component(archive, number)
    return LinearCombinationKernel(component[np.newaxis], np.array([[1.0]]), box)


def read_tan_wcs(archive: Archive, number: int) -> TanSipWcs:
    """An archive's ``TanWcs``: 0-based parent pixels, turned to ICRS."""
    row = archive.row(number)
    crval = _point(row, "crval")
    crpix = _point(row, "crpix")
    matrices: list[Array | None] = [None] * 4
    if len(archive.objects[number][1]) > 1:
        sip = archive.row(number, 1)
        matrices = [_square(sip[name]) for name in ("A", "B", "Ap", "Bp")]
    cd = np.array(row["cd"], float).reshape(2, 2).T
    equinox = float(row["equinox"])
    equinox = equinox if 0 < equinox < _UNKNOWN_EQUINOX else 2000.0
    frame = row["radesys"].decode("ascii").strip(" \0").upper() or "ICRS"
    return checked(to_icrs(TanSipWcs(crval, crpix, cd, *matrices), frame, equinox))


def read_calibration(archive: Archive, number: int) -> tuple[float, float]:
    """Mean calibration and its error, nJy per count, of a ``PhotoCalib``."""
    row = archive.row(number)
    return float(row["calibrationMean"]), float(row["calibrationErr"])


def read_band(archive: Archive, number: int) -> str:
    """The band of a ``FilterLabel``, or its physical filter where it has no band; '' for neither."""
    row = archive.row(number)
    first_byte = int(np.ravel(row["flags"])[0])
    band, physical = (row[name].decode("ascii").rstrip(" \0") for name in ("band", "physical"))
    return band if first_byte & 0x80 else physical if first_byte & 0x40 else ""


def put_psf(archive: ArchiveWriter, psf: Psf) -> int:
    """Store a PSF and what it holds; its id."""
    number = archive.reserve()
    if isinstance(psf, KernelPsf):
        name = "KernelPsf" if psf.kernel.coefficients.shape == (1, 1) else "PcaPsf"
        kernel = put_kernel(archive, psf.kernel)
        row: Row = {"kernel": ("1J", kernel), **_columns("averagePosition", "1D", psf.average_position)}
        return archive.put(number, name, _ALGORITHMS, [[row]])
    if isinstance(psf, GaussianPsf):
        row = {**_columns("dimensions", "1J", psf.dimensions), "sigma": ("1D", psf.sigma)}
        module = "lsst.afw.detection" if psf.class_name == "GaussianPsf" else _ALGORITHMS
        return archive.put(number, psf.class_name, module, [[row]])
    if isinstance(psf, DoubleGaussianPsf):
        numbers = {"sigma1": psf.sigma1, "sigma2": psf.sigma2, "b": psf.b}
        row = _columns("dimensions", "1J", psf.dimensions) | {k: ("1D", v) for k, v in numbers.items()}
        return archive.put(number, "DoubleGaussianPsf", _ALGORITHMS, [[row]])
    if isinstance(psf, PsfexPsf):
        return archive.put(number, "PsfexPsf", "lsst.meas.extensions.psfex", _psfex_rows(psf))
    raise TypeError(f"a PSF of the class {type(psf).__name__} cannot be stored")


def put_kernel(archive: ArchiveWriter, kernel: LinearCombinationKernel) -> int:
    """Store a kernel: one fixed image as ``FixedKernel``, more as ``LinearCombinationKernel``; its id."""
    number = archive.reserve()
    if kernel.coefficients.shape == (1, 1):
        return _put_fixed(archive, number, kernel.components[0] * kernel.coefficients[0, 0])
    functions, components = [], []
    for coefficients in kernel.coefficients:
        functions.append(archive.reserve())
        row: Row = {"coefficients": _vector("D", coefficients)}
        row |= {name: ("1D", edge) for name, edge in zip(_EDGES, kernel.box, strict=True)}
        archive.put(functions[-1], "Chebyshev1Function2D", _MATH, [[row]])
    for component in kernel.components:
        components.append(_put_fixed(archive, archive.reserve(), component))
    row = _frame(kernel.components[0])
    row |= {"spatialfunctions": _vector("J", functions), "components": _vector("J", components)}
    return archive.put(number, "LinearCombinationKernel", _MATH, [[row]])


def put_tan_wcs(archive: ArchiveWriter, wcs: TanSipWcs) -> int:
    """Store a WCS as afw 12.1's ``TanWcs``; its id."""
    row: Row = _columns("crval", "1D", wcs.crval) | _columns("crpix", "1D", wcs.crpix)
    row |= {
        "cd": _vector("D", wcs.cd.T.ravel()),
        "ctype1": ("72A", "RA---TAN"),
        "ctype2": ("72A", "DEC--TAN"),
        "equinox": ("1D", 2000.0),
        "radesys": ("72A", "ICRS"),
        "cunit1": ("72A", "deg"),
        "cunit2": ("72A", "deg"),
    }
    parts = [[row]]
    if wcs.a is not None and wcs.b is not None:
        named = {"A": wcs.a, "B": wcs.b, "Ap": wcs.ap, "Bp": wcs.bp}
        sip: Row = {
            name: _vector("D", (np.zeros((1, 1)) if matrix is None else matrix).T.ravel())
            for name, matrix in named.items()
        }
        parts.append([sip])
    return archive.put(archive.reserve(), "TanWcs", "lsst.afw.image", parts)


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
    width, height = _dimensions(row, odd=False)
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
    _positive(name, sigma1, sigma2)
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


def _read_psfex(archive: Archive, number: int) -> PsfexPsf:
    """PSFEx's model, of two variables in one group."""
    head, body = archive.row(number), archive.row(number, 1)
    size = [int(n) for n in np.ravel(body["_size"])]
    count = size[2] if len(size) > 2 else 1
    degree = int(np.ravel(body["degree"])[0])
    step = float(head["_pixstep"])
    if (int(head["ndim"]), int(head["ngroup"])) != (2, 1) or count != (degree + 1) * (degree + 2) // 2:
        raise DataError("the image's PsfexPsf is not a polynomial of x and y in one group", _OTHER_PSF)
    _positive("PsfexPsf", step, *np.ravel(body["_context_second"]))
    first, second = np.ravel(body["_context_first"]), np.ravel(body["_context_second"])
    return PsfexPsf(
        np.array(body["_comp"], np.float32).reshape(count, size[1], size[0]),
        degree,
        (float(first[0]), float(first[1])),
        (float(second[0]), float(second[1])),
        step,
        (float(head["averagePosition_x"]), float(head["averagePosition_y"])),
    )


def _psfex_rows(psf: PsfexPsf) -> list[list[Row]]:
    """The two tables of a ``PsfexPsf``."""
    count, height, width = psf.components.shape
    sizes = {"ndim": 2, "ngroup": 1, "ncoeff": count, "_size_size": 3, "_comp_size": psf.components.size}
    head: Row = {name: ("1J", value) for name, value in sizes.items()}
    head |= {"_context_size": ("1J", 2), **_columns("averagePosition", "1D", psf.average_position)}
    head["_pixstep"] = ("1E", psf.step)
    body: Row = {
        "group": _vector("J", [0, 0]),
        "degree": _vector("J", [psf.degree]),
        "basis": _vector("D", np.zeros(count)),
        "coeff": _vector("D", np.zeros(count)),
        "_size": _vector("J", [width, height, count]),
        "_comp": _vector("E", psf.components.ravel()),
        "_context_first": _vector("D", psf.offset),
        "_context_second": _vector("D", psf.scale),
    }
    return [[head], [body]]


def _put_fixed(archive: ArchiveWriter, number: int, image: Array) -> int:
    """Store one image as a ``FixedKernel``."""
    row = _frame(image) | {"image": _vector("D", image.ravel())}
    return archive.put(number, "FixedKernel", _MATH, [[row]])


def _frame(image: Array) -> Row:
    """Size and centre of a kernel."""
    height, width = image.shape
    return _columns("dimensions", "1J", (width, height)) | _columns("center", "1J", (width // 2, height // 2))


def _columns(name: str, form: str, pair: tuple[float, float]) -> Row:
    """A point as afw stores it: two columns."""
    return {f"{name}_x": (form, pair[0]), f"{name}_y": (form, pair[1])}


def _vector(kind: str, values: Any) -> tuple[str, Any]:
    """A column of fixed length."""
    return f"{len(values)}{kind}", np.asarray(values)


def _point(row: Any, name: str) -> tuple[float, float]:
    """A point of two columns, or of one column as before 2015."""
    if name in row.dtype.names:
        return float(row[name][0]), float(row[name][1])
    return float(row[f"{name}_x"]), float(row[f"{name}_y"])


def _square(values: Any) -> Array:
    """A square matrix stored by columns."""
    flat = np.array(np.ravel(values), float)
    side = round(np.sqrt(flat.size))
    return flat.reshape(side, side).T


def _dimensions(row: Any, odd: bool = True) -> tuple[int, int]:
    """Width and height of a stamp, within bounds."""
    size = (int(row["dimensions_x"]), int(row["dimensions_y"]))
    if not all(0 < n <= _MAX_SIDE and (n % 2 or not odd) for n in size):
        raise DataError(f"a PSF or kernel has the size {size[0]} x {size[1]}", "make the file anew")
    return size


def _positive(name: str, *values: float) -> None:
    """Refuse a width or scale that is not a positive number."""
    if not all(0 < value < np.inf for value in values):
        raise DataError(f"a {name} has a width or scale that is not positive", "make the file anew")


def _finite(pair: tuple[float, float]) -> bool:
    """Whether both numbers are finite."""
    return bool(np.all(np.isfinite(pair)))
