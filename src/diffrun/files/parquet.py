# SPDX-License-Identifier: BSD-3-Clause
"""Write a table as Apache Parquet (format 2.11): plain values, uncompressed.

The simplest file that the format allows, so that the same table always gives the same bytes, with no library
of 50 MB behind it. pyarrow, pandas, polars, DuckDB and astropy read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"PAR1"
_CREATOR = "diffrun"
#: Of a NumPy type: Parquet's physical type, the type of the bytes.
_PHYSICAL = {"b1": (0, ""), "i4": (1, "<i4"), "i8": (2, "<i8"), "f4": (4, "<f4"), "f8": (5, "<f8")}
_PHYSICAL |= {"i1": (1, "<i4"), "u1": (1, "<i4"), "i2": (1, "<i4"), "u2": (1, "<i4")}
_TEXT = 6
_PLAIN, _RLE = 0, 3
#: Kinds of values in Thrift's compact protocol.
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12

_Fields = list[tuple[int, int, Any]]


@dataclass(frozen=True)
class _Type:
    """What a column holds: the physical type, the type of the bytes, and whether a value may be absent."""

    physical: int
    stored: str
    optional: bool

    @property
    def schema(self) -> _Fields:
        """Type and repetition (0 required, 1 optional)."""
        return [(1, _I32, self.physical), (3, _I32, int(self.optional))]

    def page(self, column: NDArray[Any]) -> bytes:
        """The content of the one page of a column: which values are there, and those."""
        if not self.optional:
            return self._values(column)
        there = ~np.ma.getmaskarray(column)
        bits = np.packbits(there, bitorder="little").tobytes()
        levels = _varint(len(bits) << 1 | 1) + bits
        return len(levels).to_bytes(4, "little") + levels + self._values(np.ma.getdata(column)[there])

    def _values(self, column: NDArray[Any]) -> bytes:
        if self.physical == _TEXT:
            texts = [str(text).encode() for text in column]
            return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))
        if not self.stored:
            return np.packbits(column, bitorder="little").tobytes()
        return column.astype(self.stored).tobytes()


class Stream:
    """A file that is written one group of rows after the other, and never kept in memory as a whole.

    Parameters
    ----------
    write : callable
        Told the bytes, in order.
    columns : mapping
        The names and types of the columns, by arrays that may be empty: bool, integers of at most 64 bits
        (signed), floating point or text; a masked array has values that are absent.

    Raises
    ------
    ValueError
        If a column is of another type.
    """

    def __init__(self, write: Callable[[bytes], object], columns: Mapping[str, NDArray[Any]]) -> None:
        self._write, self._size, self._groups = write, 0, list[_Fields]()
        self._types = {name: _type(name, column) for name, column in columns.items()}
        self._rows = 0
        self._put(_MAGIC)

    def add(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """One more group of rows; `ValueError` if its columns are others."""
        if {name: _type(name, column) for name, column in columns.items()} != self._types:
            raise ValueError("the columns are not those that the file began with")
        rows = {len(column) for column in columns.values()}
        if len(rows) > 1:
            raise ValueError(f"columns of the lengths {sorted(rows)}")
        count = rows.pop() if rows else 0
        if not count:
            return
        first, chunks = self._size, list[_Fields]()
        for name, column in columns.items():
            kind, start = self._types[name], self._size
            content = kind.page(column)
            self._put(_page_header(count, len(content)) + content)
            size = self._size - start
            chunk: _Fields = [
                (1, _I32, kind.physical), (2, _LIST, (_I32, [_PLAIN, _RLE])), (3, _LIST, (_BINARY, [name])),
                (4, _I32, 0), (5, _I64, count), (6, _I64, size), (7, _I64, size), (9, _I64, start),
            ]  # fmt: skip
            chunks.append([(2, _I64, start), (3, _STRUCT, chunk)])
        self._groups.append([(1, _LIST, (_STRUCT, chunks)), (2, _I64, self._size - first), (3, _I64, count)])
        self._rows += count

    def end(self, notes: Mapping[str, str]) -> None:
        """The file's end, with texts that are kept in its metadata."""
        schema: list[_Fields] = [[(4, _BINARY, "schema"), (5, _I32, len(self._types))]]
        for name, kind in self._types.items():
            converted: _Fields = [(6, _I32, 0)] if kind.physical == _TEXT else []
            schema.append([*kind.schema, (4, _BINARY, name), *converted])
        texts = [[(1, _BINARY, key), (2, _BINARY, text)] for key, text in notes.items()]
        footer = _struct(
            [
                (1, _I32, 2),
                (2, _LIST, (_STRUCT, schema)),
                (3, _I64, self._rows),
                (4, _LIST, (_STRUCT, self._groups)),
                (5, _LIST, (_STRUCT, texts)),
                (6, _BINARY, _CREATOR),
            ]
        )
        self._put(footer + len(footer).to_bytes(4, "little") + _MAGIC)

    def _put(self, content: bytes) -> None:
        self._write(content)
        self._size += len(content)


def table_to_bytes(columns: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> bytes:
    """The file of a table, in one group.

    Parameters
    ----------
    columns : mapping
        Of each name an array (n,), as for `Stream`.
    notes : mapping
        Texts kept in the file's metadata.

    Raises
    ------
    ValueError
        If a column is of another type or length.
    """
    out = bytearray()
    stream = Stream(out.extend, columns)
    stream.add(columns)
    stream.end(notes)
    return bytes(out)


def _type(name: str, column: NDArray[Any]) -> _Type:
    """The type of a column."""
    kind = column.dtype.str[1:]
    if column.ndim == 1 and column.dtype.kind in "UO":
        return _Type(_TEXT, "", isinstance(column, np.ma.MaskedArray))
    if column.ndim != 1 or kind not in _PHYSICAL:
        raise ValueError(f"the column {name} has the type {column.dtype} and {column.ndim} dimensions")
    return _Type(*_PHYSICAL[kind], isinstance(column, np.ma.MaskedArray))


def _page_header(count: int, size: int) -> bytes:
    """The header of the one page of a column."""
    data: _Fields = [(1, _I32, count), (2, _I32, _PLAIN), (3, _I32, _RLE), (4, _I32, _RLE)]
    return _struct([(1, _I32, 0), (2, _I32, size), (3, _I32, size), (5, _STRUCT, data)])


def _struct(fields: _Fields) -> bytes:
    """A Thrift struct: each field with the step from the one before, then a zero."""
    out, last = bytearray(), 0
    for number, kind, value in fields:
        out.append((number - last) << 4 | kind)
        out += _value(kind, value)
        last = number
    return bytes(out) + b"\0"


def _value(kind: int, value: Any) -> bytes:
    """One value of a kind."""
    if kind in (_I32, _I64):
        return _varint(value << 1 ^ value >> 63)
    if kind == _BINARY:
        text = value.encode()
        return _varint(len(text)) + bytes(text)
    if kind == _STRUCT:
        return _struct(value)
    inner, values = value
    head = bytes([len(values) << 4 | inner]) if len(values) < 15 else bytes([0xF0 | inner])
    length = b"" if len(values) < 15 else _varint(len(values))
    return head + length + b"".join(_value(inner, each) for each in values)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
