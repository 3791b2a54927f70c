# SPDX-License-Identifier: BSD-3-Clause
"""The `src` catalogue: detection, deblending and measurement as processCcd leaves them (version 1 names)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
import sep
from numpy.typing import NDArray
from psffit import HALF
from reduce import plane
from scipy.ndimage import label
from visits import SIZE, STAMP, XY0

from diffrun.files.afw.psf import KernelPsf, psf_image

Array = NDArray[np.float64]
RADII = (3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0)
FLAGGED = {
    "edge": "EDGE",
    "interpolated": "INTRP",
    "saturated": "SAT",
    "cr": "CR",
    "bad": "BAD",
    "suspect": "SUSPECT",
}
EXTENDED = 0.925  # an object is extended if this part of its model flux exceeds its PSF flux


@dataclass(frozen=True)
class Calexp:
    """What is measured on: planes in float64 and the PSF."""

    image: Array
    variance: Array
    mask: NDArray[np.int32]
    psf: KernelPsf


def measure(calexp: Calexp, objects: Any, segments: NDArray[np.int32], psf_rows: NDArray[np.int64],
            used: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:  # fmt: skip
    """All columns but id, parent, coord: parents of blends first (``parent_row`` -1), then their children."""
    columns = {"x": objects["x"] + XY0[0], "y": objects["y"] + XY0[1]}
    n = len(objects)
    candidate, in_psf = np.zeros(n, bool), np.zeros(n, bool)
    candidate[psf_rows], in_psf[psf_rows[used]] = True, True
    columns |= _centroids(calexp, objects)
    columns |= _psf_fluxes(calexp, columns["x"], columns["y"])
    relative = columns["base_PsfFlux_fluxSigma"] / np.maximum(columns["base_PsfFlux_flux"], 1.0)
    columns |= dict.fromkeys(("sigma_x", "sigma_y"), np.sqrt(2) * _sigma(calexp.psf) * relative)
    columns |= _apertures(calexp, columns["x"], columns["y"])
    columns |= _shapes(calexp, columns["x"], columns["y"])
    gauss, psf = columns["base_GaussianFlux_flux"], columns["base_PsfFlux_flux"]
    scale = np.nanmedian(psf[in_psf] / gauss[in_psf])
    columns["base_GaussianFlux_flux"] = gauss * scale
    extended = np.where(EXTENDED * columns["base_GaussianFlux_flux"] < psf, 0.0, 1.0)
    columns["base_ClassificationExtendedness_value"] = extended
    columns |= {"calib_psfCandidate": candidate, "calib_psfUsed": in_psf}
    columns |= _pixel_flags(calexp.mask, segments, columns["x"], columns["y"])
    return columns | {"blend": _blends(segments, n)}


def _centroids(calexp: Calexp, objects: Any) -> dict[str, Array]:
    """Windowed centroids with the weight of the PSF (as good as a fit), and their errors."""
    sigma = _sigma(calexp.psf)
    wx, wy, flag = sep.winpos(calexp.image, objects["x"], objects["y"], np.full(len(objects), sigma))
    astray = (np.hypot(wx - objects["x"], wy - objects["y"]) > 3) | ~np.isfinite(wx + wy)
    wx, wy = np.where(astray, objects["x"], wx), np.where(astray, objects["y"], wy)
    return {"x": wx + XY0[0], "y": wy + XY0[1], "astray": astray | (flag > 15)}


def _sigma(psf: KernelPsf) -> float:
    """Width of the Gaussian with the PSF's effective area."""
    return float(1 / np.sqrt(4 * np.pi * np.sum(psf.kernel_image(*psf.average_position) ** 2)))


def _index(value: Array) -> NDArray[np.int64]:
    return np.asarray(np.clip(np.rint(value), 0, SIZE - 1).astype(np.int64))


def _psf_fluxes(calexp: Calexp, x: Array, y: Array) -> dict[str, Array]:
    """PSF fluxes; objects that touch are fitted together, as deblending would part them."""
    pad = [(STAMP, STAMP)] * 2
    image, variance = np.pad(calexp.image, pad), np.pad(calexp.variance, pad, constant_values=np.inf)
    models = [psf_image(calexp.psf, a, b)[0] for a, b in zip(x, y, strict=True)]
    corner = [(int(np.floor(b + 0.5)) - XY0[1] - HALF + STAMP, int(np.floor(a + 0.5)) - XY0[0] - HALF + STAMP)
              for a, b in zip(x, y, strict=True)]  # fmt: skip
    flux, error = np.zeros(len(x)), np.zeros(len(x))
    for i, (model, (j0, i0)) in enumerate(zip(models, corner, strict=True)):
        box = np.s_[j0 : j0 + STAMP, i0 : i0 + STAMP]
        near = [k for k in np.nonzero(np.hypot(x - x[i], y - y[i]) < 14)[0] if k != i]
        terms = np.stack([model, *(_moved(models[k], corner[k], (j0, i0)) for k in near)]).reshape(
            len(near) + 1, -1
        )
        inside = np.isfinite(variance[box]).ravel().astype(float)
        normal = (terms * inside) @ terms.T
        gain = np.linalg.pinv(normal, rcond=1e-6) @ (terms * inside)
        flux[i] = gain[0] @ image[box].ravel()
        error[i] = np.sqrt(np.sum(gain[0] ** 2 * np.where(inside > 0, variance[box].ravel(), 0)))
    return {"base_PsfFlux_flux": flux, "base_PsfFlux_fluxSigma": error}


def _moved(model: Array, at: tuple[int, int], to: tuple[int, int]) -> Array:
    """A neighbour's stamp as seen in the box at ``to``."""
    out = np.zeros_like(model)
    dj, di = at[0] - to[0], at[1] - to[1]
    a, b = max(dj, 0), max(di, 0)
    c, d = STAMP + min(dj, 0), STAMP + min(di, 0)
    out[a:c, b:d] = model[a - dj : c - dj, b - di : d - di]
    return out


def _apertures(calexp: Calexp, x: Array, y: Array) -> dict[str, Array]:
    found = {}
    for radius in RADII:
        name = f"base_CircularApertureFlux_{str(radius).replace('.', '_')}"
        flux, error, flag = sep.sum_circle(
            calexp.image, x - XY0[0], y - XY0[1], radius, err=np.sqrt(calexp.variance)
        )
        found |= {f"{name}_flux": flux, f"{name}_fluxSigma": error, f"{name}_flag": flag != 0}
    return found


def _shapes(calexp: Calexp, x: Array, y: Array) -> dict[str, Array]:
    """Adaptive moments (as SdssShape's), and the Gaussian flux of the same weight."""
    image = galsim.ImageD(np.ascontiguousarray(calexp.image), xmin=XY0[0], ymin=XY0[1])
    names = ("base_SdssShape_xx", "base_SdssShape_yy", "base_SdssShape_xy", "base_GaussianFlux_flux")
    out = {name: np.full(len(x), np.nan) for name in names}
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        box = galsim.BoundsI(int(a) - 20, int(a) + 20, int(b) - 20, int(b) + 20) & image.bounds
        found = galsim.hsm.FindAdaptiveMom(
            image[box], guess_sig=2.5, guess_centroid=galsim.PositionD(a, b), strict=False,
            hsmparams=galsim.hsm.HSMParams(max_mom2_iter=200, max_amoment=400.0, max_ashift=5.0),
        )  # fmt: skip
        if found.error_message or not np.isfinite(found.moments_sigma):
            continue
        e1, e2 = found.observed_shape.e1, found.observed_shape.e2
        size = found.moments_sigma**2 / np.sqrt(1 - e1 * e1 - e2 * e2)
        values = (size * (1 + e1), size * (1 - e1), size * e2, found.moments_amp)
        for name, value in zip(names, values, strict=True):
            out[name][i] = value
    return out | _shape_errors(calexp, x, y, out)


def _shape_errors(calexp: Calexp, x: Array, y: Array, shapes: dict[str, Array]) -> dict[str, Array]:
    """First-order errors of a Gaussian in noise of the local variance."""
    xx, yy, xy = (shapes[f"base_SdssShape_{k}"] for k in ("xx", "yy", "xy"))
    variance = calexp.variance[_index(y - XY0[1]), _index(x - XY0[0])]
    noise = np.sqrt(4 * np.pi * np.sqrt(np.maximum(xx * yy - xy * xy, 0)) * variance)
    relative = noise / np.abs(shapes["base_GaussianFlux_flux"])
    return {
        "base_GaussianFlux_fluxSigma": noise,
        "base_SdssShape_xxSigma": np.sqrt(2) * xx * relative,
        "base_SdssShape_yySigma": np.sqrt(2) * yy * relative,
        "base_SdssShape_xySigma": np.sqrt(np.maximum(xx * yy + xy * xy, 0)) * relative,
    }


def _pixel_flags(mask: NDArray[np.int32], segments: NDArray[np.int32], x: Array, y: Array) -> dict[str, Any]:
    """A plane anywhere in the object's pixels, or ("Center") within one pixel of its middle."""
    flags: dict[str, Any] = {}
    ix, iy = _index(x - XY0[0]), _index(y - XY0[1])
    for flag, name in FLAGGED.items():
        there = (mask & plane(name)) != 0
        touched = np.bincount(segments[there], minlength=len(x) + 1)[1 : len(x) + 1] > 0
        centre = np.zeros(len(x), bool)
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                centre |= there[np.clip(iy + dy, 0, SIZE - 1), np.clip(ix + dx, 0, SIZE - 1)]
        flags[f"base_PixelFlags_flag_{flag}"] = touched | centre
        if flag in ("interpolated", "saturated", "cr", "suspect"):
            flags[f"base_PixelFlags_flag_{flag}Center"] = centre
    return flags


def _blends(segments: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """The number of the connected patch that holds each object; objects of one patch are a blend."""
    patches, _ = label(segments > 0, structure=np.ones((3, 3)))
    blend = np.zeros(n, np.int64)
    where = np.nonzero(segments)
    blend[segments[where] - 1] = patches[where]
    return blend
