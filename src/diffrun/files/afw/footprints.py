# SPDX-License-Identifier: BSD-3-Clause
"""Footprints of the sources of a catalogue: an archive behind its table (afw.md 4.4).

Written as class ``Footprint`` of afw 12.1, spans and peaks, which today's afw reads too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files import fitsread
from diffrun.files.afw.archive import Archive, raw_rows
from diffrun.files.fitswrite import Table

_ANEW = "get a whole copy of this file, or make it anew"
_VERSION = "HIERARCH AFW_TABLE_VERSION"
_NAME, _MODULE = "Footprint", "lsst.afw.detection"
_NUMBERS = {">i4": "1J", ">i8": "1K", ">f4": "1E", "S64": "64A"}
_INDEX = [(name, ">i4") for name in ("id", "cat.archive", "cat.persistable", "row0", "nrows")]
_INDEX += [("name", "S64"), ("module", "S64")]
_SPANS = [("y", ">i4"), ("x0", ">i4"), ("x1", ">i4")]
_PEAKS = [("id", ">i8"), ("f_x", ">f4"), ("f_y", ">f4"), ("i_x", ">i4"), ("i_y", ">i4"), ("peakValue", ">f4")]
_DOCS = {
    "y": "row position of span",
    "x0": "first column of span (inclusive)",
    "x1": "last column of span (inclusive)",
    "id": "unique ID",
    "f_x": "subpixel column position",
    "f_y": "subpixel row position",
    "i_x": "column position of highest pixel",
    "i_y": "row position of highest pixel",
    "peakValue": "value of the difference at peak position",
}
_HEAVY = {"image": ">f4", "variance": ">f4"}


@dataclass(frozen=True)
class Footprint:
    """The pixels of one source and its peaks, parent pixels.

    Attributes
    ----------
    spans : `numpy.ndarray`, (n, 3), int32
        One row ``y, x0, x1`` a span, both ends included.
    peaks_x, peaks_y : `numpy.ndarray`, (m,), int32
    peak_values : `numpy.ndarray`, (m,), float32
        Pixel values at the peaks.
    heavy : `dict` or `None`
        Of a heavy one the values of its pixels, span by span: ``image``, ``mask``, ``variance``.
    """

    spans: NDArray[np.int32]
    peaks_x: NDArray[np.int32]
    peaks_y: NDArray[np.int32]
    peak_values: NDArray[np.float32]
    heavy: dict[str, NDArray[Any]] | None = None


def hdus(footprints: Sequence[Footprint]) -> list[Table]:
    """The archive of the footprints of a catalogue's rows, with the ids 1, 2, 3, ..."""
    none: NDArray[np.int32] = np.zeros((0, 3), np.int32)
    spans = np.zeros(sum(len(each.spans) for each in footprints), _SPANS)
    parts = [each.spans[np.lexsort(each.spans.T[1::-1])] for each in footprints]
    for column, name in enumerate(("y", "x0", "x1")):
        spans[name] = np.concatenate([none, *parts])[:, column]
    peaks = np.zeros(sum(len(each.peaks_x) for each in footprints), _PEAKS)
    x, y, values = (
        np.concatenate([np.zeros(0), *(getattr(each, name) for each in footprints)])
        for name in ("peaks_x", "peaks_y", "peak_values")
    )
    peaks["id"] = np.arange(1, len(peaks) + 1)
    peaks["f_x"], peaks["f_y"], peaks["i_x"], peaks["i_y"], peaks["peakValue"] = x, y, x, y, values
    index = np.zeros(2 * len(footprints), _INDEX)
    index["id"] = np.repeat(np.arange(1, len(footprints) + 1), 2)
    index["name"], index["module"] = _NAME.encode(), _MODULE.encode()
    for part, lengths in enumerate(
        ([len(each.spans) for each in footprints], [len(each.peaks_x) for each in footprints])
    ):
        rows = index[part::2]
        rows["cat.archive"], rows["cat.persistable"], rows["nrows"] = part + 1, part, lengths
        rows["row0"] = np.cumsum([0, *lengths])[:-1]
    tables = [_table(spans, 1), _table(peaks, 2)] if footprints else []
    cards = [("EXTNAME", "ARCHIVE_INDEX"), ("EXTTYPE", "ARCHIVE_INDEX"), ("AR_CATN", 0)]
    cards += [("AR_NCAT", 1 + len(tables)), (_VERSION, 1)]
    return [Table(_columns(index) + cards, index), *tables]


def read_footprints(path: Path) -> list[Footprint | None]:
    """The footprint of each row of a catalogue of version 0 to 3, `None` for a row that has none.

    Raises
    ------
    diffrun.errors.DataError
        If the file is damaged, or has no footprints.
    """
    with fitsread.opened(path) as opened:
        table = opened[1] if len(opened) > 1 and opened[1].is_table else None
        if table is not None and "SPANCOL" in table.header:
            return _in_columns(table)
        if table is None or "footprint" not in (table.row_type().names or ()):
            raise DataError(
                "there is no table with footprints", "give a catalogue that was written with them"
            )
        if table.header["NAXIS2"] == 0:
            return []
        archive = Archive.read(opened, int(table.header["AR_HDU"]) - 1)
        return [read(archive, int(number)) if number else None for number in table.rows()["footprint"]]


def _in_columns(table: fitsread.Hdu) -> list[Footprint | None]:
    """Those of version 0, which are fields of the table itself."""
    rows = raw_rows(table)
    names = ["", *(rows.dtype.names or ())]

    def cells(card: str, kind: str) -> list[NDArray[Any]]:
        name = names[int(table.header[card])]
        return [np.frombuffer(cell, kind).astype(kind.replace(">", "=")) for cell in rows[name]]

    spans = [cell.reshape(-1, 3) for cell in cells("SPANCOL", ">i4")]
    peaks = [cell.reshape(-1, 3) for cell in cells("PEAKCOL", ">f4")]
    plain = [
        Footprint(span, peak[:, 0].astype(np.int32), peak[:, 1].astype(np.int32), peak[:, 2])
        for span, peak in zip(spans, peaks, strict=True)
    ]
    if "HVYPIXCO" not in table.header:
        return [each if len(each.spans) else None for each in plain]
    images, variances = cells("HVYPIXCO", ">f4"), cells("HVYVARCO", ">f4")
    masks = [cell.astype(np.int32) + 32768 for cell in cells("HVYMSKCO", ">i2")]
    return [
        _checked(each, {"image": image, "mask": mask, "variance": variance}) if len(each.spans) else None
        for each, image, mask, variance in zip(plain, images, masks, variances, strict=True)
    ]


def read(archive: Archive, number: int) -> Footprint:
    """One footprint of an archive, in the form of 12.1 or of today.

    Raises
    ------
    diffrun.errors.DataError
        If it is none.
    """
    name = archive.name(number)
    if not name.startswith(("Footprint", "HeavyFootprint")):
        raise DataError(f"a footprint is of the class {name or '(missing)'}", _ANEW)
    spans, peaks = archive.rows(number), archive.rows(number, 1)
    if "y" not in (spans.dtype.names or ()):
        spans = archive.rows(int(archive.row(number)["id"]))
    positions = ("i_x", "i_y", "peakValue") if "i_x" in (peaks.dtype.names or ()) else ("x", "y", "value")
    found = Footprint(
        np.stack([spans[each] for each in ("y", "x0", "x1")], axis=1).astype(np.int32),
        peaks[positions[0]].astype(np.int32),
        peaks[positions[1]].astype(np.int32),
        peaks[positions[2]].astype(np.float32),
    )
    return _heavy(archive, number, found) if name.startswith("Heavy") else found


def _heavy(archive: Archive, number: int, plain: Footprint) -> Footprint:
    """With the values of its pixels."""
    row = archive.row(number, 2)
    values: dict[str, NDArray[Any]] = {
        name: np.frombuffer(row[name], kind).astype(kind.replace(">", "=")) for name, kind in _HEAVY.items()
    }
    wide = len(row["mask"]) == 4 * len(values["image"])
    # 16 bits in 12.1, moved by 32768; the heap has them as they stand in the file.
    mask = np.frombuffer(row["mask"], ">i4" if wide else ">i2").astype(np.int32)
    return _checked(plain, values | {"mask": mask if wide else mask + 32768})


def _checked(plain: Footprint, heavy: dict[str, NDArray[Any]]) -> Footprint:
    """With the values of its pixels, if it has any: as many as pixels."""
    area = int((plain.spans[:, 2] - plain.spans[:, 1] + 1).sum())
    sizes = {len(each) for each in heavy.values()}
    if sizes == {0}:
        return plain
    if sizes != {area}:
        raise DataError(f"a heavy footprint of {area} pixels has another number of values", _ANEW)
    return Footprint(plain.spans, plain.peaks_x, plain.peaks_y, plain.peak_values, heavy)


def _table(rows: NDArray[Any], number: int) -> Table:
    """One table of the archive."""
    cards: list[tuple[str, Any]] = [("EXTNAME", _NAME), ("EXTTYPE", "ARCHIVE_DATA"), ("AR_CATN", number)]
    cards += [("EXTVER", number)] if number > 1 else []
    return Table([*_columns(rows), *cards, (_VERSION, 1), ("AR_NAME", _NAME)], rows)


def _columns(rows: NDArray[Any]) -> list[tuple[str, Any]]:
    """The cards of a table's columns."""
    cards: list[tuple[str, Any]] = []
    for number, name in enumerate(rows.dtype.names or (), 1):
        kind = rows.dtype[name].str
        cards += [(f"TTYPE{number}", name), (f"TFORM{number}", _NUMBERS[kind.lstrip("|")])]
        cards += [(f"TDOC{number}", _DOCS[name])] if kind != "|S64" and name in _DOCS else []
        cards += [(f"TCCLS{number}", "String" if kind == "|S64" else "Scalar")]
    return cards
