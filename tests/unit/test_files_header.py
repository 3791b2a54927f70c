# SPDX-License-Identifier: BSD-3-Clause
"""Cards against astropy's; leap seconds against ERFA's."""

from __future__ import annotations

import warnings

import erfa
import numpy as np
import pytest
from astropy.io import fits

from diffrun.errors import DataError
from diffrun.files.afw import cards
from diffrun.files.fitsheader import Header, image

RNG = np.random.default_rng(5)
VALUES = [
    True,
    False,
    0,
    -17,
    2**62,
    0.1,
    -1.5e-300,
    1e22,
    123456789.123456789,
    53.0,
    "",
    "r",
    "it's",
    "a longer string with / and = in it",
    "words " * 40,
    "x" * 200,
    *np.concatenate([RNG.normal(size=50), 10.0 ** RNG.uniform(-300, 300, 50), -RNG.random(50)]).tolist(),
]


@pytest.mark.parametrize("keyword", ["KEY", "A_B-C1", "HIERARCH A_LONG_KEYWORD", "HIERARCH lower case"])
def test_cards_are_those_of_astropy(keyword: str) -> None:
    for value in VALUES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert image(keyword, value) == fits.Card(keyword, value).image
            assert image("KEY", value, "why")[:80] == fits.Card("KEY", value, "why").image[:80] or value
    assert image("NAXIS", 2, "number of axes") == fits.Card("NAXIS", 2, "number of axes").image


@pytest.mark.parametrize("keyword", ["KEY", "HIERARCH A_LONG_KEYWORD"])
def test_what_is_written_is_read_by_both(keyword: str) -> None:
    name = keyword.removeprefix("HIERARCH ")
    for value in VALUES:
        text = image(keyword, value).encode()
        ours, theirs = Header.parse(text), fits.Header.fromstring(text)
        assert ours[name] == theirs[name]
        assert type(ours[name]) is type(theirs[name])
        if not isinstance(value, float):
            assert ours[name] == (value.rstrip() if isinstance(value, str) else value)


@pytest.mark.parametrize(
    "text",
    [
        "KEY     = 1.5D3                / Fortran's own",
        "KEY     = -.5",
        "KEY     =                   +7 / a comment / with a stroke",
        "KEY     = 'it''s  '           / quoted",
        "KEY     =",
        "KEY     = T/",
        "HIERARCH ESO DET X.Y = 3 / dotted",
        "COMMENT words",
        "HISTORY = no value",
    ],
)
def test_cards_of_others_mean_what_astropy_says(text: str) -> None:
    card = fits.Card.fromstring(text.ljust(80))
    header = Header.parse(text.ljust(80).encode())
    value = None if isinstance(card.value, fits.card.Undefined) else card.value
    ((name, read),) = header.items()
    assert (name, read) == (card.keyword, value)
    assert header.comment(name) == card.comment


def test_a_repeated_keyword_means_its_first_card_and_all_are_listed() -> None:
    header = Header.parse(b"".join(image("ALIAS", text).encode() for text in ("a:b", "c:d")))
    assert header["ALIAS"] == "a:b"
    assert [value for _, value in header.items()] == ["a:b", "c:d"]
    assert "alias" in header
    assert "OTHER" not in header
    assert header.get("OTHER", 3) == 3


def test_a_value_that_is_none_of_fits_is_refused_when_asked_for() -> None:
    header = Header.parse(b"KEY     = not a value".ljust(80) + image("GOOD", 1).encode())
    assert header["GOOD"] == 1
    with pytest.raises(DataError, match="KEY has no value that can be read"):
        header["KEY"]


def test_leap_seconds_are_those_of_erfa() -> None:
    for year in range(1971, 2023):
        for month, day in ((1, 1), (6, 30), (7, 1), (12, 31)):
            days = cards._MJD_EPOCH
            ordinal = np.datetime64(f"{year}-{month:02d}-{day:02d}").astype("datetime64[D]").astype(int)
            mjd = int(ordinal) + 719163 - days
            expected = round(float(erfa.dat(year, month, day, 0.0))) if year >= 1972 else 0
            assert cards._leap(mjd * 86400 * 10**9) == expected
