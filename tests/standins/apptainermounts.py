# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in's ``--bind`` and ``--mount``, by Apptainer's rules."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from view import Bind

_KEYS = {
    "type": "type", "source": "source", "src": "source", "destination": "target", "dst": "target",
    "target": "target", "ro": "readonly", "readonly": "readonly", "image-src": "image", "id": "id",
    "nonested": "nonested",
}  # fmt: skip
_OPTION = re.compile(r"ro|rw|image-src=.*|id=.*")


class Refused(Exception):
    """What is wrong with a flag's value."""


def parse_mount(value: str) -> list[Bind]:
    """Records of CSV, a field for each key."""
    found = []
    for record in csv.reader(io.StringIO(value), strict=True):
        table: dict[str, str] = {}
        for part in record:
            key, _, text = part.partition("=")
            if key not in _KEYS:
                raise Refused(f"invalid key {key!r} in mount specification")
            table[_KEYS[key]] = text
        if table.get("type") != "bind":
            raise Refused(f"invalid mount type {table.get('type')!r}")
        if not table.get("source") or not table.get("target"):
            raise Refused("mounts must specify a source and a destination")
        found.append(Bind(Path(table["source"]), table["target"], "readonly" in table))
    return found


def parse_bind(value: str) -> list[Bind]:
    """``src[:dst[:options]]``, several with commas between; a source may escape comma and colon."""
    found: list[Bind] = []
    for word in _split(value, ","):
        if found and _OPTION.fullmatch(word):  # a further option of the bind before
            found[-1] = Bind(found[-1].source, found[-1].target, found[-1].readonly or word == "ro")
            continue
        source, *rest = _split(word, ":")
        if len(rest) > 2:
            raise Refused(f"invalid bind path {word!r}")
        if len(rest) == 2 and not _OPTION.fullmatch(rest[1]):
            raise Refused(f"invalid option {rest[1]!r}")
        plain = re.sub(r"\\([,:])", r"\1", source)
        found.append(Bind(Path(plain), rest[0] if rest else plain, rest[1:] == ["ro"]))
    return found


def _split(text: str, mark: str) -> list[str]:
    return re.split(rf"(?<!\\){mark}", text)
