# SPDX-License-Identifier: BSD-3-Clause
"""Options as C's ``getopt_long`` reads them under ``POSIXLY_CORRECT``: up to the first other word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NONE, REQUIRED, OPTIONAL = range(3)


class Wrong(Exception):
    """With getopt's own message."""


def parse(
    words: Sequence[str], long: Mapping[str, int], short: Mapping[str, str]
) -> tuple[list[tuple[str, str | None]], list[str]]:
    """The options by their long names, in order, and the rest."""
    found: list[tuple[str, str | None]] = []
    rest = list(words)
    while rest:
        word = rest[0]
        if word == "--":
            return found, rest[1:]
        if not word.startswith("-") or word == "-":
            break
        rest.pop(0)
        found += _long(word[2:], rest, long) if word.startswith("--") else _short(word[1:], rest, long, short)
    return found, rest


def _long(word: str, rest: list[str], long: Mapping[str, int]) -> list[tuple[str, str | None]]:
    given, equals, value = word.partition("=")
    names = [given] if given in long else [name for name in long if name.startswith(given)]
    if not names:
        raise Wrong(f"unrecognized option '--{given}'")
    if len(names) > 1:
        raise Wrong(f"option '--{given}' is ambiguous")
    name = names[0]
    if equals:
        if long[name] == NONE:
            raise Wrong(f"option '--{name}' doesn't allow an argument")
        return [(name, value)]
    if long[name] == REQUIRED:
        if not rest:
            raise Wrong(f"option '--{name}' requires an argument")
        return [(name, rest.pop(0))]
    return [(name, None)]


def _short(
    letters: str, rest: list[str], long: Mapping[str, int], short: Mapping[str, str]
) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter not in short:
            raise Wrong(f"invalid option -- '{letter}'")
        name = short[letter]
        kind = long.get(name, NONE)
        if kind == NONE:
            found.append((name, None))
        elif letters or kind == OPTIONAL:
            return [*found, (name, letters or None)]
        elif rest:
            return [*found, (name, rest.pop(0))]
        else:
            raise Wrong(f"option requires an argument -- '{letter}'")
    return found
