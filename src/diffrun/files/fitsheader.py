# SPDX-License-Identifier: BSD-3-Clause
"""Cards of FITS headers: text to values and back (FITS standard 4.0, section 4; CONTINUE; HIERARCH).

astropy does the same, and takes longer to be imported than a sensor takes to be read; it is what the tests
compare with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffrun.errors import DataError

CARD = 80
Value = bool | int | float | str | None

_VALUE = re.compile(
    r" *(?:'(?P<text>(?:[^']|'')*)'|(?P<logical>[TF])"
    r"|(?P<number>[+-]? *(?:\.\d+|\d+(?:\.\d*)?)(?: *[DEde] *[+-]? *\d+)?))? *(?:/ *(?P<comment>.*))?"
)
_STANDARD = re.compile(r"[A-Z0-9_-]{1,8}")
_COMMENTARY = ("COMMENT", "HISTORY", "")
_REMEDY = "get a whole copy of this file, or make it anew"
_WIDTH = 67  # of a string that goes on in a CONTINUE card


@dataclass(frozen=True)
class Card:
    """One keyword with its value and comment; ``readable`` is false if the value is none of FITS."""

    keyword: str
    value: Value
    comment: str = ""
    readable: bool = True


class Header(Mapping[str, Any]):
    """The cards of one HDU in order: a mapping to values, where a repeated keyword means its first card."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.cards = tuple(cards)
        self._first: dict[str, Card] = {}
        for card in self.cards:
            self._first.setdefault(card.keyword.upper(), card)

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Read the bytes of a header unit, up to END."""
        found: list[Card] = []
        for start in range(0, len(data), CARD):
            image = data[start : start + CARD].decode("ascii", "replace")
            if image.rstrip() == "END":
                break
            if image.startswith("CONTINUE  ") and found and str(found[-1].value).endswith("&"):
                found[-1] = _continued(found[-1], image)
                continue
            card = _card(image)
            if card is not None:
                found.append(card)
        return cls(found)

    def __getitem__(self, keyword: str) -> Any:
        return _readable(self._first[keyword.upper()])

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and keyword.upper() in self._first

    def __iter__(self) -> Iterator[str]:
        return (card.keyword for card in self.cards)

    def __len__(self) -> int:
        return len(self.cards)

    def items(self) -> Any:
        """Every card's keyword and value, those of repeated keywords too."""
        return [(card.keyword, _readable(card)) for card in self.cards]

    def comment(self, keyword: str) -> str:
        """The comment of a card."""
        return self._first[keyword.upper()].comment


def image(keyword: str, value: Value, comment: str = "") -> str:
    """A card as text: 80 characters, or several times as many for a string that is too long for one."""
    keyword = keyword.removeprefix("HIERARCH ")
    plain = _STANDARD.fullmatch(keyword) is not None
    start = f"{keyword:8}= " if plain else f"HIERARCH {keyword} = "
    text = _text(value) if plain else _text(value).strip()
    if not plain and len(start) + len(text) == CARD + 1:
        start = f"HIERARCH {keyword}= "
    if len(start) + len(text) > CARD:
        if not isinstance(value, str):
            raise ValueError(f"the card {keyword} = {text} is too long")
        return _long(start, value)
    return f"{start}{text}{f' / {comment}' if comment else ''}"[:CARD].ljust(CARD)


def _card(image: str) -> Card | None:
    """One card of a header; `None` for one that has no value and is no comment."""
    keyword = image[:8].rstrip()
    if keyword in _COMMENTARY:
        return Card(keyword, image[8:].rstrip())
    rest = image[10:]
    if image.startswith("HIERARCH ") and "=" in image:
        keyword, _, rest = image[9:].partition("=")
    elif image[8:10] != "= ":
        return None
    keyword = keyword.strip()
    match = _VALUE.fullmatch(rest)
    if match is None:
        return Card(keyword, None, readable=False)
    return Card(keyword, _value(match), (match["comment"] or "").rstrip())


def _value(match: re.Match[str]) -> Value:
    if match["text"] is not None:
        return match["text"].replace("''", "'").rstrip()
    if match["logical"] is not None:
        return match["logical"] == "T"
    if match["number"] is None:
        return None
    number = match["number"].replace(" ", "").upper().replace("D", "E")
    return int(number) if number.lstrip("+-").isdigit() else float(number)


def _continued(card: Card, image: str) -> Card:
    """A card with the string of the CONTINUE card that follows it."""
    match = _VALUE.fullmatch(image[10:])
    if match is None or (match["text"] is None and match["comment"] is None):
        return Card(card.keyword, None, readable=False)
    value = str(card.value)[:-1] + str(_value(match) or "")
    return Card(card.keyword, value, (card.comment + (match["comment"] or "")).rstrip())


def _readable(card: Card) -> Value:
    if not card.readable:
        raise DataError(f"the card {card.keyword} has no value that can be read", _REMEDY)
    return card.value


def _text(value: Value) -> str:
    """A value in the fixed format, 20 characters or more."""
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted:8}'".ljust(20) if value else "''"
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, float):
        return f"{_float(value):>20}"
    return "" if value is None else f"{int(value):>20d}"


def _float(value: float) -> str:
    """A number in 20 characters at most, shortest first, its last digits cut off if need be."""
    text = str(float(value)).replace("e", "E")
    if len(text) > 20:
        digits, mark, exponent = text.partition("E")
        text = digits[: 20 - len(mark + exponent)] + mark + exponent
    return text


def _long(start: str, value: str) -> str:
    """A string over several cards, broken after a blank where there is one."""
    text, images, at = value.replace("'", "''"), [], 0
    room = _WIDTH + 10 - len(start)
    while True:
        blank = f"{text} ".rfind(" ", at, at + room)
        end = blank + 1 if blank >= at else min(at + room, len(text))
        last = end >= len(text)
        images.append(f"{start}'{text[at:end]}{'' if last else '&'}'".ljust(CARD))
        if last:
            return "".join(images)
        at, room, start = end, _WIDTH, "CONTINUE  "
