# SPDX-License-Identifier: BSD-3-Clause
"""Point spread functions in an archive (afw.md 2.2)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from diffrun.errors import DataError
from diffrun.files.afw import persistence, skywcs
from diffrun.files.afw.archive import Archive, ArchiveWriter, Row
from diffrun.files.afw.exposure import Psf
from diffrun.files.afw.kernelarchive import Box, put_kernel, read_kernel
from diffrun.files.afw.psf import DoubleGaussianPsf, GaussianPsf, KernelPsf, PsfexPsf
from diffrun.files.afw.rows import columns, dimensions, finite, positive, vector
from diffrun.files.afw.warpedpsf import CoaddPsf, Input, WarpedPsf

_ALGORITHMS = "lsst.meas.algorithms"
_KNOWN = ("GaussianPsf", "SingleGaussianPsf", "DoubleGaussianPsf", "KernelPsf", "PcaPsf", "PsfexPsf")
_OTHER_PSF = f"give an image with a PSF of one of the classes {', '.join(_KNOWN)}, WarpedPsf, CoaddPsf"
_LANCZOS = re.compile(r"lanczos([2-9]|10)")
_MAX_INPUTS, _MAX_DEPTH, _MAX_CACHE = 10_000, 4, 1_000_000


def read_psf(archive: Archive, number: int, box: Box, depth: int = 0) -> Psf:
    """The PSF with this id.

    Parameters
    ----------
    archive : `Archive`
    number : `int`
    box : `tuple` of `float`
        ``(min_x, min_y, max_x, max_y)``, the parent pixels over which it will be used.
    depth : `int`, optional
        How many PSFs hold this one.

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
        return KernelPsf(read_kernel(archive, int(row["kernel"]), box), at if finite(at) else centre)
    if name in ("GaussianPsf", "SingleGaussianPsf"):
        row = archive.row(number)
        sigma = float(row["sigma"])
        positive(name, sigma)
        return GaussianPsf(dimensions(row), sigma, centre, name)
    if name == "DoubleGaussianPsf":
        row = archive.row(number)
        sigma1, sigma2, b = float(row["sigma1"]), float(row["sigma2"]), float(row["b"])
        sigma2 = 1.0 if b == 0 and sigma2 == 0 else sigma2
        positive(name, sigma1, sigma2)
        return DoubleGaussianPsf(dimensions(row), sigma1, sigma2, b, centre)
    if name == "PsfexPsf":
        return _read_psfex(archive, number)
    if name in ("WarpedPsf", "CoaddPsf") and depth < _MAX_DEPTH:
        return (_read_warped if name == "WarpedPsf" else _read_coadd)(archive, number, box, depth)
    raise DataError(f"the image's PSF is of the class {name or '(missing)'}", _OTHER_PSF)


def put_psf(archive: ArchiveWriter, psf: Psf) -> int:
    """Store a PSF and what it holds; its id."""
    number = archive.reserve()
    if isinstance(psf, KernelPsf):
        name = "KernelPsf" if psf.kernel.coefficients.shape == (1, 1) else "PcaPsf"
        kernel = put_kernel(archive, psf.kernel)
        row: Row = {"kernel": ("1J", kernel), **columns("averagePosition", "1D", psf.average_position)}
        return archive.put(number, name, _ALGORITHMS, [[row]])
    if isinstance(psf, GaussianPsf):
        row = {**columns("dimensions", "1J", psf.dimensions), "sigma": ("1D", psf.sigma)}
        module = "lsst.afw.detection" if psf.class_name == "GaussianPsf" else _ALGORITHMS
        return archive.put(number, psf.class_name, module, [[row]])
    if isinstance(psf, DoubleGaussianPsf):
        numbers = {"sigma1": psf.sigma1, "sigma2": psf.sigma2, "b": psf.b}
        row = columns("dimensions", "1J", psf.dimensions) | {k: ("1D", v) for k, v in numbers.items()}
        return archive.put(number, "DoubleGaussianPsf", _ALGORITHMS, [[row]])
    if isinstance(psf, PsfexPsf):
        return archive.put(number, "PsfexPsf", "lsst.meas.extensions.psfex", _psfex_rows(psf))
    raise TypeError(f"a PSF of the class {type(psf).__name__} cannot be stored")


def _read_warped(archive: Archive, number: int, box: Box, depth: int) -> Psf:
    """A ``WarpedPsf`` with its PSF, its map and its way of resampling."""
    row = archive.row(number)
    distortion = skywcs.transform(archive.row(int(row["transformIndex"]))["bytes"])
    control = archive.row(int(row["controlIndex"]))
    kernel = int(control["warpingKernelIndex"])
    if archive.name(kernel) != "LanczosWarpingKernel" or int(control["interpLength"]) > 1:
        raise DataError(f"a WarpedPsf is resampled by a {archive.name(kernel)}", _OTHER_PSF)
    order, cache = _resampling(f"lanczos{int(archive.row(kernel)['order'])}", int(control["cacheSize"]))
    x, y = np.meshgrid(np.linspace(box[0], box[2], 5), np.linspace(box[1], box[3], 5))
    x, y = distortion.inverse(np.stack([x.ravel(), y.ravel()]))
    inner = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    if not finite(inner):
        raise DataError("a WarpedPsf has a map that cannot be inverted over the image", _OTHER_PSF)
    psf = read_psf(archive, int(row["psfIndex"]), inner, depth + 1)
    return WarpedPsf(psf, distortion, order, cache)


def _read_coadd(archive: Archive, number: int, box: Box, depth: int) -> Psf:
    """A ``CoaddPsf`` with all its inputs."""
    head, rows = archive.row(number), archive.rows(number, 1)
    if not 0 < len(rows) <= _MAX_INPUTS:
        raise DataError(f"the image's CoaddPsf has {len(rows)} inputs", _OTHER_PSF)
    name = head["warpingkernelname"].decode("ascii").strip(" \0")
    order, cache = _resampling(name, int(head["cachesize"]))
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    at = (float(head["avgpos_x"]), float(head["avgpos_y"]))
    inputs = tuple(_read_input(archive, row, depth) for row in rows)
    wcs = persistence.read_wcs(archive, int(head["coaddwcs"]))
    return CoaddPsf(inputs, wcs, at if finite(at) else centre, order, cache)


def _read_input(archive: Archive, row: Any, depth: int) -> Input:
    """One image of a coadd."""
    edges = tuple(int(row[f"bbox_{name}"]) for name in ("min_x", "min_y", "max_x", "max_y"))
    left, bottom, right, top = edges
    weight = float(row["weight"])
    if not (left <= right and bottom <= top and 0 < weight < np.inf):
        raise DataError(f"an input of the coadd has the box {edges} and the weight {weight}", _OTHER_PSF)
    polygon = None
    if int(row["validPolygon"]):
        corners = archive.rows(int(row["validPolygon"]))
        polygon = np.stack([corners["vertices_x"], corners["vertices_y"]], axis=1).astype(float)
    # Half a pixel more on each side, so that an image of one pixel has a range too.
    box = (left - 0.5, bottom - 0.5, right + 0.5, top + 0.5)
    psf = read_psf(archive, int(row["psf"]), box, depth + 1)
    return Input(
        psf, persistence.read_wcs(archive, int(row["wcs"])), (left, bottom, right, top), polygon, weight
    )


def _resampling(name: str, cache: int) -> tuple[int, int]:
    """Order of a Lanczos kernel by its name, and the steps of its cache."""
    match = _LANCZOS.fullmatch(name)
    if match is None or not 0 <= cache <= _MAX_CACHE:
        raise DataError(f"a PSF is resampled by {name} in {cache} steps", _OTHER_PSF)
    return int(match.group(1)), cache


def _read_psfex(archive: Archive, number: int) -> PsfexPsf:
    """PSFEx's model, of two variables in one group."""
    head, body = archive.row(number), archive.row(number, 1)
    size = [int(n) for n in np.ravel(body["_size"])]
    count = size[2] if len(size) > 2 else 1
    degree = int(np.ravel(body["degree"])[0])
    step = float(head["_pixstep"])
    if (int(head["ndim"]), int(head["ngroup"])) != (2, 1) or count != (degree + 1) * (degree + 2) // 2:
        raise DataError("the image's PsfexPsf is not a polynomial of x and y in one group", _OTHER_PSF)
    positive("PsfexPsf", step, *np.ravel(body["_context_second"]))
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
    head |= {"_context_size": ("1J", 2), **columns("averagePosition", "1D", psf.average_position)}
    head["_pixstep"] = ("1E", psf.step)
    body: Row = {
        "group": vector("J", [0, 0]),
        "degree": vector("J", [psf.degree]),
        "basis": vector("D", np.zeros(count)),
        "coeff": vector("D", np.zeros(count)),
        "_size": vector("J", [width, height, count]),
        "_comp": vector("E", psf.components.ravel()),
        "_context_first": vector("D", psf.offset),
        "_context_second": vector("D", psf.scale),
    }
    return [[head], [body]]
