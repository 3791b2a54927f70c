# SPDX-License-Identifier: BSD-3-Clause
"""The table persistence of afw: an index of objects and the tables that hold their rows (afw.md 2.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffrun.errors import DataError
from diffrun.files.fitsread import Hdu
from diffrun.files.fitswrite import Table

#: One table row as ``{column: (FITS format, value)}``.
Row = dict[str, tuple[str, Any]]

#: FITS column codes as types of the bytes in the file.
_BYTES = {"J": ">i4", "K": ">i8", "D": ">f8", "E": ">f4"}
_ANEW = "get a whole copy of this file, or make it anew"
_VERSION = "HIERARCH AFW_TABLE_VERSION"
_MAX_OBJECTS = 100_000
_VARIABLE = re.compile(r"[01]?[PQ]([BIJKEDA])")
_WIDTHS = {"B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8}


@dataclass(frozen=True)
class Archive:
    """The objects of an archive, each a list of tables' rows.

    Attributes
    ----------
    objects : `dict`
        Of an id: the class name, and its rows of each of its tables.
    """

    objects: dict[int, tuple[str, list[NDArray[Any]]]]

    @classmethod
    def read(cls, hdus: Sequence[Hdu], index: int) -> Archive:
        """Read the archive whose index is HDU ``index`` (counted from 0).

        Raises
        ------
        diffrun.errors.DataError
            If it is not an archive or its index points outside its tables.
        """
        if not 0 < index < len(hdus) or hdus[index].header.get("EXTTYPE") != "ARCHIVE_INDEX":
            raise DataError(f"HDU {index} is no archive index", _ANEW)
        rows = raw_rows(hdus[index])
        tables: dict[int, NDArray[Any]] = {}
        objects: dict[int, tuple[str, list[NDArray[Any]]]] = {}
        if len(rows) > _MAX_OBJECTS:
            raise DataError(f"the archive has {len(rows)} entries", _ANEW)
        for row in np.sort(rows, order=["id", "cat.persistable"]):
            number, first, count = int(row["cat.archive"]), int(row["row0"]), int(row["nrows"])
            name = row["name"].decode("ascii").rstrip(" \0")
            parts = objects.setdefault(int(row["id"]), (name, []))[1]
            if number < 1:
                continue
            if number not in tables:
                tables[number] = raw_rows(hdus[index + number])
            if first < 0 or count < 0 or first + count > len(tables[number]):
                raise DataError(f"the archive's {name} points outside its table", _ANEW)
            parts.append(tables[number][first : first + count])
        return cls(objects)

    def name(self, number: int) -> str:
        """The class of an object; '' for one that is not there."""
        return self.objects[number][0] if number in self.objects else ""

    def rows(self, number: int, part: int = 0) -> NDArray[Any]:
        """The rows that an object has in its ``part``-th table."""
        if number not in self.objects or part >= len(self.objects[number][1]):
            raise DataError(f"the archive lacks object {number}, part {part}", _ANEW)
        return self.objects[number][1][part]

    def row(self, number: int, part: int = 0) -> Any:
        """The one row that an object has in its ``part``-th table."""
        rows = self.rows(number, part)
        if len(rows) != 1:
            raise DataError(f"the archive's {self.name(number)} has {len(rows)} rows, not 1", _ANEW)
        return rows[0]


@dataclass
class _Table:
    """Rows of one shape, to be written as one HDU."""

    shape: tuple[tuple[str, str], ...]
    name: str
    rows: list[Row] = field(default_factory=list)


@dataclass
class ArchiveWriter:
    """Collects objects and lays them out as afw's ``OutputArchive`` does."""

    tables: list[_Table] = field(default_factory=list)
    index: list[tuple[int, int, int, int, int, str, str]] = field(default_factory=list)
    _last: int = 0

    def reserve(self) -> int:
        """The id of the next object; an owner takes its own before what it holds is put."""
        self._last += 1
        return self._last

    def put(self, number: int, name: str, module: str, parts: Sequence[Sequence[Row]]) -> int:
        """Store an object's rows, table by table.

        Parameters
        ----------
        number : `int`
            An id from `reserve`.
        name, module : `str`
            Its class, and the Python module that knows it.
        parts : sequence of sequences of rows
            One sequence a table.

        Returns
        -------
        number : `int`
        """
        for part, rows in enumerate(parts):
            table = self._table(rows[0], name)
            self.index.append(
                (number, table + 1, part, len(self.tables[table].rows), len(rows), name, module)
            )
            self.tables[table].rows.extend(rows)
        return number

    def hdus(self) -> list[Table]:
        """The index and the tables."""
        names = ("id", "cat.archive", "cat.persistable", "row0", "nrows")
        columns = [*((name, "1J") for name in names), ("name", "64A"), ("module", "64A")]
        entries = [
            {column: (form, value) for (column, form), value in zip(columns, entry, strict=True)}
            for entry in self.index
        ]
        cards: list[tuple[str, Any]] = [("AR_NCAT", len(self.tables) + 1), (_VERSION, 1)]
        index = _Table(tuple(columns), "ARCHIVE_INDEX", entries)
        hdus = [_hdu(index, "ARCHIVE_INDEX", 0, cards)]
        for number, table in enumerate(self.tables, 1):
            earlier = sum(other.name == table.name for other in self.tables[: number - 1])
            cards = [("EXTVER", earlier + 1)] if earlier else []
            cards += [(_VERSION, 1)]
            cards += [("AR_NAME", name) for name in sorted({e[5] for e in self.index if e[1] == number})]
            hdus.append(_hdu(table, "ARCHIVE_DATA", number, cards))
        return hdus

    def _table(self, row: Row, name: str) -> int:
        """The number of the table with this row's columns, made if there is none."""
        shape = tuple((column, form) for column, (form, _) in row.items())
        for number, table in enumerate(self.tables):
            if table.shape == shape:
                return number
        self.tables.append(_Table(shape, name))
        return len(self.tables) - 1


def raw_rows(hdu: Hdu) -> NDArray[Any]:
    """A table's rows as they stand in the file.

    A field of variable length becomes an object: the array's bytes, big-endian and not moved by TZERO.
    """
    rows = hdu.rows()
    names = rows.dtype.names or ()
    forms = {name: str(hdu.header[f"TFORM{n}"]) for n, name in enumerate(names, 1)}
    variable = {name: match[1] for name, form in forms.items() if (match := _VARIABLE.match(form))}
    if not variable or not len(rows):
        return rows
    parts = [(name, "O") if name in variable else (name, rows.dtype[name]) for name in names]
    opened = np.zeros(len(rows), parts)
    heap = hdu.heap()
    for name in names:
        opened[name] = _fetched(heap, rows[name], variable[name]) if name in variable else rows[name]
    return opened


def _fetched(heap: bytes, places: NDArray[Any], code: str) -> list[bytes]:
    """The bytes that each (length, offset) of a column points to."""
    width = _WIDTHS[code]
    found = []
    for length, offset in places.tolist():
        end = offset + length * width
        if not 0 <= offset <= end <= len(heap):
            raise DataError("a table points outside its heap", _ANEW)
        found.append(heap[offset:end])
    return found


def _hdu(table: _Table, kind: str, number: int, cards: list[tuple[str, Any]]) -> Table:
    """One archive table."""
    names = [(column, _dtype(form)) for column, form in table.shape]
    rows = np.zeros(len(table.rows), np.dtype(names))
    for n, row in enumerate(table.rows):
        for column, (_, value) in row.items():
            rows[column][n] = np.reshape(value, rows[column].shape[1:])
    head: list[tuple[str, Any]] = []
    for n, (column, form) in enumerate(table.shape, 1):
        head += [(f"TTYPE{n}", column), (f"TFORM{n}", form), (f"TCCLS{n}", _field_class(table, column))]
    head += [("EXTNAME", table.name), ("EXTTYPE", kind), ("AR_CATN", number)]
    return Table(head + cards, rows)


def _field_class(table: _Table, column: str) -> str:
    """afw's template of a column; only by it does afw know an array of length 1 from a number."""
    value = table.rows[0][column][1] if table.rows else 0
    return "Array" if isinstance(value, np.ndarray) else "String" if isinstance(value, str) else "Scalar"


def _dtype(form: str) -> str:
    """The type of a column's bytes in the file."""
    repeat, code = form[:-1], form[-1]
    return f"S{repeat}" if code == "A" else f"({repeat},)" * (repeat != "1") + _BYTES[code]
