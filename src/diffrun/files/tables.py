# SPDX-License-Identifier: BSD-3-Clause
"""Write a long table as CSV and, beside it, as Parquet, piece by piece."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from diffrun.files import parquet
from diffrun.files.atomic import binary_stream, write_stream

Values = Sequence[Any] | NDArray[Any]
#: Some rows: the values of each column.
Block = Mapping[str, Values]
#: Rows of a group of the Parquet file.
_GROUP = 1 << 17
_ABSENT = {"U": "", "f8": math.nan}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : `str`
    dtype : `str`
        ``U`` (text), ``f8``, ``i8`` or ``b1``.
    form : `str`
        How a number is written as CSV, in the language of `format`.
    optional : `bool`
        Whether an integer or a truth value may be absent; text is empty then, and a float NaN.
    """

    name: str
    dtype: str = "U"
    form: str = ""
    optional: bool = False

    def array(self, values: Values) -> NDArray[Any]:
        """Values as Parquet takes them; `None` is absent."""
        dtype = object if self.dtype == "U" else self.dtype
        if isinstance(values, np.ndarray) and values.dtype.kind != "O" and not self.optional:
            return values.astype(dtype, copy=False)
        absent = np.array([value is None for value in values], bool)
        instead = _ABSENT.get(self.dtype, 0)
        filled = [instead if value is None else value for value in values]
        found = np.array(filled, dtype=dtype)
        return np.ma.MaskedArray(found, mask=absent) if self.optional else found

    def text(self, values: Values) -> list[Any]:
        """Values as CSV has them: nothing where one is absent, 0 and 1 for false and true."""
        listed = values.tolist() if isinstance(values, np.ndarray) else values
        if self.dtype == "b1":
            return ["" if value is None else int(value) for value in listed]
        if self.dtype == "f8":
            there = [value is not None and not math.isnan(value) for value in listed]
            return [format(value, self.form) if is_ else "" for value, is_ in zip(listed, there, strict=True)]
        return ["" if value is None else value for value in listed]


def csv_text(columns: Sequence[Column], block: Block) -> str:
    """Some rows of a table as CSV."""
    text = io.StringIO()
    values = [column.text(block[column.name]) for column in columns]
    csv.writer(text, lineterminator="\n").writerows(zip(*values, strict=True))
    return text.getvalue()


class Table:
    """A table that is being written."""

    def __init__(self, columns: Sequence[Column], text: TextIO, binary: parquet.Stream) -> None:
        self._columns, self._text, self._binary = columns, text, binary
        self._waiting: list[dict[str, NDArray[Any]]] = []
        csv.writer(text, lineterminator="\n").writerow(column.name for column in columns)

    def add(self, block: Block, text: str | None = None) -> None:
        """More rows: a sequence for each column; ``text`` is what `csv_text` makes of them."""
        self._text.write(csv_text(self._columns, block) if text is None else text)
        self._waiting.append({column.name: column.array(block[column.name]) for column in self._columns})
        if sum(len(each[self._columns[0].name]) for each in self._waiting) >= _GROUP:
            self.flush()

    def flush(self) -> None:
        """Hand on what waits."""
        if not self._waiting:
            return
        joined = {}
        for column in self._columns:
            parts = [each[column.name] for each in self._waiting]
            join: Callable[..., NDArray[Any]] = np.ma.concatenate if column.optional else np.concatenate
            joined[column.name] = join(parts)
        self._binary.add(joined)
        self._waiting.clear()


@contextlib.contextmanager
def written(path: Path, columns: Sequence[Column]) -> Iterator[Table]:
    """Write a table as CSV under this path and as Parquet beside it; both appear when all is written.

    Raises
    ------
    diffrun.errors.DiskFullError, diffrun.errors.OutputError
        If one cannot be written.
    """
    empty = {column.name: column.array([]) for column in columns}
    with write_stream(path) as text, binary_stream(path.with_suffix(".parquet")) as binary:
        stream = parquet.Stream(binary.write, empty)
        table = Table(columns, text, stream)
        yield table
        table.flush()
        stream.end({})
