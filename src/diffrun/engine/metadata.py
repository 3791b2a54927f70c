# SPDX-License-Identifier: BSD-3-Clause
"""Task metadata as the stack persists it: a ``PropertySet`` in a Boost text archive (``.boost``).

Layout of ``PropertySetFormatter.cc`` and ``BoostStorage.cc`` of daf_persistence 12.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby

Value = bool | int | float | str

_HEADER = "22 serialization::archive 14 0 0 1 0\n"
_CODES: Mapping[type, int] = {bool: ord("b"), int: ord("i"), float: ord("d"), str: ord("s")}
_LONG = ord("x")


def to_boost(items: Mapping[str, Value | Iterable[Value]]) -> bytes:
    """The archive of some metadata.

    Parameters
    ----------
    items : mapping
        Full name (``imageDifference:subtract.ALKernelSize``) -> `bool`, `int`, `float`, `str`, or several of
        one of these. Items with a value that is not finite are left out: a reader would stop at them.

    Returns
    -------
    archive : `bytes`
        ASCII; characters beyond it become ``?``.
    """
    known = {name: _values(value) for name, value in sorted(items.items())}
    kept = {name: values for name, values in known.items() if values and _finite(values)}
    parts = [f"0 {len(kept)}"]
    strings_before = False
    for name, values in kept.items():
        parts.append(_item(name, values, strings_before))
        strings_before = strings_before or isinstance(values[0], str)
    return (_HEADER + " ".join(parts) + "\n").encode("ascii", "replace")


def _values(value: Value | Iterable[Value]) -> list[Value]:
    many: list[Value] = [value] if isinstance(value, (bool, int, float, str)) else list(value)
    kinds = [kind for kind, _ in groupby(type(each) for each in many)]
    return many if len(kinds) <= 1 else [float(each) for each in many]


def _finite(values: list[Value]) -> bool:
    return all(math.isfinite(value) for value in values if isinstance(value, float))


def _item(name: str, values: list[Value], strings_before: bool) -> str:
    kind = type(values[0])
    long = kind is int and any(not -(2**31) <= int(value) < 2**31 for value in values)
    fields = [str(len(name)), name, str(_LONG if long else _CODES[kind])]
    if kind is str:
        # the class of a vector of strings is described where the first of them stands, and never again
        fields += [] if strings_before else ["0", "0"]
        fields += [str(len(values)), "0", *(f"{len(str(value))} {value}" for value in values)]
    elif kind is bool:
        fields += [str(len(values)), *(str(int(value)) for value in values)]
    else:
        fields += [
            str(len(values)),
            "0",
            *(f"{value:.17e}" if kind is float else str(value) for value in values),
        ]
    return " ".join(fields)
