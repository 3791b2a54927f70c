# SPDX-License-Identifier: BSD-3-Clause
"""The DIA sources for tools that do not know afw: a Parquet table, and a region file of DS9."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.engine import quality
from diffrun.files import parquet
from diffrun.files.afw.catalog import Catalog, Field

_TYPES = {"D": "float64", "F": "float32", "I": "int32", "L": "int64", "U": "int32", "B": "int32"}
_TYPES |= {"Angle": "float64", "Flag": "bool"}
#: Point, colour.
_LOOKS = {
    quality.POSITIVE: ("circle", "green"),
    quality.NEGATIVE: ("box", "magenta"),
    quality.DIPOLE: ("diamond", "cyan"),
}
_SIZE, _SMALL = 15, 9


def table(catalog: Catalog) -> bytes:
    """The catalogue as Parquet: one column a field, an array's elements as ``name_0``, ``name_1``, ...

    Strings are left out. Units and descriptions stand where astropy looks for them.
    """
    columns: dict[str, NDArray[Any]] = {}
    described = []
    for field in catalog.fields:
        if field.type not in _TYPES:
            continue
        for name, values in _flat(field, catalog.columns[field.name]):
            columns[name] = values
            entry = {"name": name, "datatype": _TYPES[field.type]}
            entry |= {"unit": field.unit} if field.unit else {}
            described.append(entry | ({"description": field.doc} if field.doc else {}))
    notes = {"table_meta_yaml": json.dumps({"datatype": described}, ensure_ascii=False)}  # JSON is YAML
    return parquet.table_to_bytes(columns, notes)


def regions(catalog: Catalog, shown: quality.Sources, origin: tuple[int, int] | None = None) -> str:
    """A region file of DS9, in ICRS: a circle is a positive source, a box a negative one, a diamond a dipole.

    Those with bad pixels are small; each carries its id and S/N, and a tag of its kind. With an ``origin``,
    the parent pixel of the first pixel, the places are pixels of the image, counted from 1.
    """
    lines = [
        "# Region file format: DS9 version 4.1",
        "global width=1 select=1",
        "image" if origin else "icrs",
    ]
    across, up = (np.degrees(np.asarray(catalog[name], float)) for name in ("coord_ra", "coord_dec"))
    if origin:
        across, up = shown.x - origin[0] + 1, shown.y - origin[1] + 1
    names = {quality.POSITIVE: "positive", quality.NEGATIVE: "negative", quality.DIPOLE: "dipole"}
    rows = zip(
        catalog["id"].tolist(), across.tolist(), up.tolist(), shown.kind.tolist(), shown.flagged.tolist(),
        shown.snr.tolist(), strict=True,
    )  # fmt: skip
    for number, x, y, kind, flagged, snr in rows:
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        shape, colour = _LOOKS[kind]
        tags = f"tag={{{names[kind]}}}" + (" tag={flagged}" if flagged else "")
        size = _SMALL if flagged else _SIZE
        look = f"point={shape} {size} color={colour} {tags} text={{{number}: {snr:+.1f}}}"
        lines.append(f"point({x:.8f},{y:.8f}) # {look}")
    return "\n".join(lines) + "\n"


def _flat(field: Field, values: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The columns of a field."""
    if values.ndim == 1:
        yield field.name, values
        return
    for number in range(values.shape[1]):
        yield f"{field.name}_{number}", np.ascontiguousarray(values[:, number])
