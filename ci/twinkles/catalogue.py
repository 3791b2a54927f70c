# SPDX-License-Identifier: BSD-3-Clause
"""The columns of `src` in the order and words of the stack's version 1 tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sources import FLAGGED, RADII

from diffrun.files.afw.catalog import Catalog, Field
from diffrun.files.afw.wcs import TanSipWcs

CENTERED = ("interpolated", "saturated", "cr", "suspect")
ALIASES = {
    "slot_ApFlux": "base_CircularApertureFlux_12_0",
    "slot_CalibFlux": "base_CircularApertureFlux_12_0",
    "slot_Centroid": "base_SdssCentroid",
    "slot_InstFlux": "base_GaussianFlux",
    "slot_ModelFlux": "base_GaussianFlux",
    "slot_PsfFlux": "base_PsfFlux",
    "slot_Shape": "base_SdssShape",
}


def fields() -> list[Field]:
    """The schema."""
    found = [
        Field("id", "L", "", "unique ID"),
        Field("coord_ra", "Angle", "rad", "position in ra/dec"),
        Field("coord_dec", "Angle", "rad", "position in ra/dec"),
        Field("parent", "L", "", "unique ID of parent source"),
        Field(
            "calib_psfCandidate", "Flag", "", "Flag set if the source was a candidate for PSF determination"
        ),
        Field("calib_psfUsed", "Flag", "", "Flag set if the source was used in PSF determination"),
        Field("deblend_nChild", "I", "", "Number of children this object has (defaults to 0)"),
    ]
    found += [Field(f"base_SdssCentroid_{k}", "D", "pixel", f"position in {k}") for k in "xy"]
    found += [Field(f"base_SdssCentroid_{k}Sigma", "F", "pixel", f"1-sigma error of {k}") for k in "xy"]
    found += [Field("base_SdssCentroid_flag", "Flag", "", "centroiding failed")]
    found += [
        Field(f"base_SdssShape_{k}", "D", "pixel^2", f"adaptive moment {k}") for k in ("xx", "yy", "xy")
    ]
    found += [
        Field(f"base_SdssShape_{k}Sigma", "F", "pixel^2", f"1-sigma error of {k}") for k in ("xx", "yy", "xy")
    ]
    found += [Field("base_SdssShape_flag", "Flag", "", "adaptive moments failed")]
    found += _flux_fields()
    found.append(Field("base_ClassificationExtendedness_value", "D", "", "1 for extended, 0 for point-like"))
    for flag, plane in FLAGGED.items():
        found.append(Field(f"base_PixelFlags_flag_{flag}", "Flag", "", f"{plane} in the source's footprint"))
        if flag in CENTERED:
            name = f"base_PixelFlags_flag_{flag}Center"
            found.append(Field(name, "Flag", "", f"{plane} at the source's centre"))
    return found


def _flux_fields() -> list[Field]:
    named = {"base_PsfFlux": "PSF flux", "base_GaussianFlux": "flux with the weight of the adaptive moments"}
    for radius in RADII:
        named[f"base_CircularApertureFlux_{str(radius).replace('.', '_')}"] = f"flux within {radius:g} pixels"
    found = []
    for name, doc in named.items():
        found.append(Field(f"{name}_flux", "D", "count", doc))
        found.append(Field(f"{name}_fluxSigma", "D", "count", f"1-sigma error of {doc}"))
        found.append(Field(f"{name}_flag", "Flag", "", f"failure of {doc}"))
    return found


def schema() -> Catalog:
    """The table without rows."""
    return Catalog(fields(), {f.name: np.zeros(0) for f in fields()}, ALIASES)


def build(measured: dict[str, NDArray[Any]], wcs: TanSipWcs, ccd_exposure_id: int) -> Catalog:
    """The table: isolated sources and parents of blends in one run of ids, then the children."""
    rows, parents, children = _family(measured["blend"], measured["base_PsfFlux_flux"])
    take = {name: np.asarray(value)[rows] for name, value in measured.items()}
    n = len(rows)
    columns: dict[str, NDArray[Any]] = {"id": (np.int64(ccd_exposure_id) << 23) + 1 + np.arange(n)}
    ra, dec = wcs.pixel_to_sky(take["x"], take["y"])
    columns["coord_ra"], columns["coord_dec"] = np.radians(ra), np.radians(dec)
    columns["parent"] = np.where(parents >= 0, columns["id"][parents], 0)
    columns["deblend_nChild"] = children.astype(np.int32)
    columns["base_SdssCentroid_x"], columns["base_SdssCentroid_y"] = take["x"], take["y"]
    columns["base_SdssCentroid_xSigma"] = take["sigma_x"]
    columns["base_SdssCentroid_ySigma"] = take["sigma_y"]
    columns["base_SdssCentroid_flag"] = take["astray"]
    columns["base_SdssShape_flag"] = ~np.isfinite(take["base_SdssShape_xx"])
    columns["base_GaussianFlux_flag"] = ~np.isfinite(take["base_GaussianFlux_flux"])
    columns["base_PsfFlux_flag"] = ~np.isfinite(take["base_PsfFlux_flux"])
    columns = {**take, **columns}
    return Catalog(fields(), {f.name: columns[f.name] for f in fields()}, ALIASES)


def _family(blend: NDArray[np.int64], flux: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Measured rows in the order of the table, the table row of each one's parent (-1), its children.

    A parent carries the measurement of its brightest child.
    """
    groups = {b: np.nonzero(blend == b)[0] for b in np.unique(blend)}
    rows, parents, children = [], [], []
    for group in groups.values():
        rows.append(int(group[np.argmax(flux[group])]))
        parents.append(-1)
        children.append(len(group) if len(group) > 1 else 0)
    for place, group in enumerate(groups.values()):
        if len(group) > 1:
            rows += [int(i) for i in group]
            parents += [place] * len(group)
            children += [0] * len(group)
    return np.array(rows), np.array(parents), np.array(children)
