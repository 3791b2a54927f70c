# SPDX-License-Identifier: BSD-3-Clause
"""Objects as Starlink AST dumps them to text: nested blocks of ``Name = value`` lines (afw.md 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffrun.errors import DataError

ANEW = "get a whole copy of this file, or make it anew"
_LINE = re.compile(r"(Begin|End|IsA) (\w+)|(\w+) =(?: (.*))?")
_MAX_LINES, _MAX_DEPTH, _MAX_AXES = 1_000_000, 64, 8


@dataclass(frozen=True)
class Object:
    """A dumped object: its class, its plain attributes and the objects it holds."""

    kind: str
    values: dict[str, str]
    parts: dict[str, Object]

    def number(self, name: str, default: float | None = None) -> float:
        """A numeric attribute."""
        if name not in self.values:
            if default is None:
                raise DataError(f"an AST {self.kind} lacks {name}", ANEW)
            return default
        try:
            value = float(self.values[name])
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise DataError(f"an AST {self.kind} has {name} = {self.values[name]}", ANEW)
        return value

    def count(self, name: str, default: int | None = None, most: int = _MAX_AXES) -> int:
        """A small integer attribute."""
        value = self.number(name, default)
        if value != int(value) or not 0 <= value <= most:
            raise DataError(f"an AST {self.kind} has {name} = {value:g}", ANEW)
        return int(value)

    def part(self, name: str) -> Object:
        """An object that this one holds."""
        if name not in self.parts:
            raise DataError(f"an AST {self.kind} lacks {name}", ANEW)
        return self.parts[name]


def parse(text: str) -> Object:
    """The object that a dump describes.

    Raises
    ------
    diffrun.errors.DataError
        If it is no dump of AST.
    """
    lines = iter(text.splitlines()[:_MAX_LINES])
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match and match.group(1) == "Begin":
            return _object(match.group(2), lines, 0)
    raise DataError("an AST text has no object", ANEW)


def _object(kind: str, lines: Iterator[str], depth: int) -> Object:
    """The object of this class whose ``Begin`` has been read."""
    made = Object(kind, {}, {})
    name = ""
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None or depth > _MAX_DEPTH:
            raise DataError(f"an AST text has the line {text[:40]!r}", ANEW)
        word, other, name_here, value = match.groups()
        if word == "Begin":
            made.parts[name] = _object(other, lines, depth + 1)
        elif word == "End":
            return made
        elif word is None and value:
            made.values[name_here] = value.strip('"')
        elif word is None:
            name = name_here
    raise DataError(f"an AST text ends within a {kind}", ANEW)
