# SPDX-License-Identifier: BSD-3-Clause
"""Write a table as Apache Parquet (format 2.11): one row group, plain values, uncompressed.

The simplest file that the format allows, so that the same table always gives the same bytes, with no library
of 50 MB behind it. pyarrow, pandas, polars, DuckDB and astropy read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"PAR1"
_CREATOR = "diffrun"
#: Of a NumPy type: Parquet's physical type, the type of the bytes.
_PHYSICAL = {"b1": (0, ""), "i4": (1, "<i4"), "i8": (2, "<i8"), "f4": (4, "<f4"), "f8": (5, "<f8")}
_PHYSICAL |= {"i1": (1, "<i4"), "u1": (1, "<i4"), "i2": (1, "<i4"), "u2": (1, "<i4")}
_PLAIN, _RLE = 0, 3
#: Kinds of values in Thrift's compact protocol.
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12

_Fields = list[tuple[int, int, Any]]


def table_to_bytes(columns: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> bytes:
    """The file of a table.

    Parameters
    ----------
    columns : mapping
        Of each name: an array (n,) of bool, integers of at most 64 bits (signed) or floating point.
    notes : mapping
        Texts kept in the file's metadata.

    Raises
    ------
    ValueError
        If a column is of another type or length.
    """
    rows = {len(column) for column in columns.values()}
    if len(rows) > 1:
        raise ValueError(f"columns of the lengths {sorted(rows)}")
    count = rows.pop() if rows else 0
    out = bytearray(_MAGIC)
    schema: list[_Fields] = [[(4, _BINARY, "schema"), (5, _I32, len(columns))]]
    chunks: list[_Fields] = []
    for name, column in columns.items():
        physical, content = _plain(name, column)
        schema.append([(1, _I32, physical), (3, _I32, 0), (4, _BINARY, name)])
        start = len(out)
        out += _page_header(count, len(content)) + content
        size = len(out) - start
        chunk: _Fields = [
            (1, _I32, physical), (2, _LIST, (_I32, [_PLAIN, _RLE])), (3, _LIST, (_BINARY, [name])),
            (4, _I32, 0), (5, _I64, count), (6, _I64, size), (7, _I64, size), (9, _I64, start),
        ]  # fmt: skip
        chunks.append([(2, _I64, start), (3, _STRUCT, chunk)])
    group: _Fields = [(1, _LIST, (_STRUCT, chunks)), (2, _I64, len(out) - len(_MAGIC)), (3, _I64, count)]
    texts = [[(1, _BINARY, key), (2, _BINARY, text)] for key, text in notes.items()]
    footer = _struct(
        [
            (1, _I32, 2),
            (2, _LIST, (_STRUCT, schema)),
            (3, _I64, count),
            (4, _LIST, (_STRUCT, [group] if count else [])),
            (5, _LIST, (_STRUCT, texts)),
            (6, _BINARY, _CREATOR),
        ]
    )
    return bytes(out + footer) + len(footer).to_bytes(4, "little") + _MAGIC


def _plain(name: str, column: NDArray[Any]) -> tuple[int, bytes]:
    """Physical type and bytes of a column."""
    kind = column.dtype.str[1:]
    if column.ndim != 1 or kind not in _PHYSICAL:
        raise ValueError(f"the column {name} has the type {column.dtype} and {column.ndim} dimensions")
    physical, stored = _PHYSICAL[kind]
    if not stored:
        return physical, np.packbits(column, bitorder="little").tobytes()
    return physical, column.astype(stored).tobytes()


def _page_header(count: int, size: int) -> bytes:
    """The header of the one page of a column, whose values are all there: no levels."""
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
