# SPDX-License-Identifier: BSD-3-Clause
"""Read task metadata back from a Boost text archive, the engine's or the stack's."""

from __future__ import annotations

from pathlib import Path

from diffrun.engine.metadata import Value
from diffrun.errors import DataError

_START = b"22 serialization::archive "
_INTEGERS = frozenset(map(ord, "ixlLXIwWcyCT"))
_FLOATS = frozenset(map(ord, "fd"))
_BOOL, _STRING = ord("b"), ord("s")


class _Words:
    """The archive as words, with strings taken by their length."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def word(self) -> bytes:
        """The next word; `ValueError` at the end."""
        while self.at < len(self.data) and self.data[self.at] in b" \n":
            self.at += 1
        start = self.at
        while self.at < len(self.data) and self.data[self.at] not in b" \n":
            self.at += 1
        if start == self.at:
            raise ValueError("it ends too early")
        return self.data[start : self.at]

    def number(self) -> int:
        """The next word as a whole number."""
        return int(self.word())

    def text(self) -> str:
        """The next string: its length, a blank, its bytes."""
        length = self.number()
        start = self.at + 1
        if length < 0 or start + length > len(self.data):
            raise ValueError("a string is longer than the file")
        self.at = start + length
        return self.data[start : self.at].decode("utf-8", "replace")


def read(path: Path) -> dict[str, Value | list[Value]]:
    """All items of a ``.boost`` file, those with several values as lists.

    Raises
    ------
    DataError
        If the file is not such an archive, or is cut short.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not task metadata in a Boost archive: {error}") from None


def parse(data: bytes) -> dict[str, Value | list[Value]]:
    """The items of an archive; `ValueError` saying what is wrong with it."""
    if not data.startswith(_START):
        raise ValueError("it does not begin as one")
    words = _Words(data)
    for _ in range(8):  # length and name of the signature, version, class ids of the set
        words.word()
    items: dict[str, Value | list[Value]] = {}
    string_described = False
    for _ in range(words.number()):
        name, code = words.text(), words.number()
        if code == _STRING and not string_described:
            words.number(), words.number()
            string_described = True
        values = _values(words, code)
        items[name] = values[0] if len(values) == 1 else values
    return items


def _values(words: _Words, code: int) -> list[Value]:
    count = words.number()
    if not 0 <= count <= len(words.data):
        raise ValueError(f"an item has {count} values")
    if code != _BOOL:
        words.number()  # the version of a value's class
    if code == _BOOL:
        return [bool(words.number()) for _ in range(count)]
    if code in _INTEGERS:
        return [words.number() for _ in range(count)]
    if code in _FLOATS:
        return [float(words.word()) for _ in range(count)]
    if code == _STRING:
        return [words.text() for _ in range(count)]
    raise ValueError(f"type {code} is not known")
