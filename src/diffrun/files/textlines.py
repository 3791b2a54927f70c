# SPDX-License-Identifier: BSD-3-Clause
"""Read a table that a person has typed: CSV, or ECSV, which may be separated by blanks."""

from __future__ import annotations

import csv
from pathlib import Path

from diffrun.errors import UsageError


def read(path: Path, of: str, largest: int) -> list[tuple[int, list[str]]]:
    """The lines of a table, the one with the names of its columns first.

    Lines that are empty or begin with # are passed over.

    Parameters
    ----------
    path : `pathlib.Path`
    of : `str`
        What it is a table of, for the messages.
    largest : `int`
        Bytes that it may have.

    Returns
    -------
    lines : `list`
        Of each its number in the file, from 1, and its words.

    Raises
    ------
    UsageError
        If it cannot be read as text, or is larger.
    """
    remedy = f"give a table of {of}"
    try:
        if path.stat().st_size > largest:
            raise UsageError(f"{path} is larger than {largest >> 20} MiB", remedy)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", remedy) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text", remedy) from None
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    separator = "," if lines and "," in lines[0][1] else " "
    rows = csv.reader((line for _, line in lines), delimiter=separator, skipinitialspace=True)
    try:
        return [(lines[rows.line_num - 1][0], [word.strip() for word in row]) for row in rows]
    except csv.Error as error:
        raise UsageError(f"{path} is no table: {error}", remedy) from None
